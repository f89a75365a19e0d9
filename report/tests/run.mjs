// Tests pages in Chromium: run.mjs DEMO.html MILLION.html HOSTILE.html FAR.html LARGE.html DIRECTORY-FOR-PICTURES
import assert from "node:assert/strict";
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launch, open, pause } from "./browser.mjs";

const [demo, million, hostile, far, large, pictures] = process.argv.slice(2);
mkdirSync(pictures, { recursive: true });
const browser = await launch();
let failed = 0;

async function test(name, body) {
  try {
    const note = await body();
    console.log(`ok    ${name}${note ? `: ${note}` : ""}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}\n${error.stack}`);
  }
}

/** What is shown, as the page knows it. */
const shown = (page) =>
  page.evaluate(() => {
    const { app } = window.lookback;
    return {
      from: app.from,
      until: app.until,
      selected: app.selected,
      range: app.range,
      pins: app.pins,
      tab: app.tab,
      hit: app.hit,
      hits: app.hits.length,
      marks: app.marks,
      finding: app.finding,
      hash: location.hash,
      help: app.isHelpShown,
    };
  });
/** Input takes until the page has handled it, which a busy machine may delay: waits until this holds. */
async function until(page, holds, what) {
  for (let round = 0; round < 200; round++) {
    const now = await shown(page);
    if (holds(now)) return now;
    await pause(100);
  }
  assert.fail(`${what}: ${JSON.stringify(await shown(page))}`);
}
/** Until two frames have been drawn, and what is told later has been. */
const settle = (page) =>
  page.evaluate(async () => {
    await new Promise((then) => setTimeout(then, 200));
    for (let frame = 0; frame < 2; frame++) await new Promise((then) => requestAnimationFrame(then));
  });
/** Where a poll is on the screen, once it is in view. */
const placeOf = (page, what) =>
  page.evaluate((what) => {
    const { app } = window.lookback;
    const box = document.querySelector(".timeline").getBoundingClientRect();
    const { slices } = app.model;
    const rows = app.model.sliceRows.filter((row) => !row.isRegion && row.depth === 0);
    let longest = -1;
    for (const row of rows)
      for (let i = row.from; i < row.to; i++)
        if (
          slices.kind[i] === 0 &&
          (longest < 0 || slices.end[i] - slices.start[i] > slices.end[longest] - slices.start[longest])
        )
          longest = i;
    if (what === "show") {
      app.select({ what: "slice", index: longest }, true);
      return longest;
    }
    return { index: longest, left: box.left, top: box.top, width: box.width, height: box.height };
  }, what);

async function interactions(file, name) {
  const { page, check } = await open(browser, file);
  const before = await shown(page);
  await test(`${name}: zooms with W and with ctrl+wheel at the cursor, and pans with D and a drag`, async () => {
    const length = (view) => view.until - view.from;
    // A page that was just opened may not have the keyboard yet.
    for (let round = 0; round < 20 && length(await shown(page)) >= length(before); round++) {
      await page.bringToFront();
      await page.keyboard.press("w");
      await settle(page);
    }
    await until(page, (now) => length(now) < length(before), "W zooms");
    // It goes on for as long as the key is held.
    await settle(page);
    const closer = await shown(page);
    const { left, top, width, height } = await placeOf(page);
    const x = left + 210 + (width - 210) / 4;
    await page.mouse.move(x, top + height / 2);
    await page.keyboard.down("Control");
    await page.mouse.wheel({ deltaY: -240 });
    await page.keyboard.up("Control");
    const close = await until(page, (now) => length(now) < length(closer), "the wheel zooms");
    const at = (view) => view.from + (view.until - view.from) / 4;
    assert(Math.abs(at(close) - at(closer)) < (closer.until - closer.from) / 50, "what is below the cursor stays there");
    await page.mouse.down();
    await page.mouse.move(x - 150, top + height / 2, { steps: 4 });
    await page.mouse.up();
    await until(page, (now) => now.from > close.from && Math.abs(length(now) - length(close)) < 10, "a drag moves");
    await settle(page);
    const dragged = await shown(page);
    await page.keyboard.press("d");
    await until(page, (now) => now.from > dragged.from, "D moves");
    await page.keyboard.press("0");
    await until(page, (now) => Math.abs(now.from - before.from) < 1e6, "0 shows all");
  });
  await test(`${name}: a click shows details; keys go on and back, and follow wakes`, async () => {
    const index = await placeOf(page, "show");
    await settle(page);
    const text = await page.$eval("#panel", (panel) => panel.textContent);
    assert(text.includes("poll") && text.includes("thread"), text);
    // The same by the pointer: in the middle of the poll.
    const spot = await page.evaluate((index) => {
      const { app } = window.lookback;
      const box = document.querySelector(".timeline").getBoundingClientRect();
      const { slices } = app.model;
      const middle = (Math.max(slices.start[index], app.from) + Math.min(slices.end[index], app.until)) / 2;
      app.selected = null;
      app.changed();
      return {
        x: box.left + 210 + ((middle - app.from) / (app.until - app.from)) * (box.width - 210),
        top: box.top,
        height: box.height,
      };
    }, index);
    let isFound = false;
    for (let y = spot.top + 32; y < spot.top + spot.height && !isFound; y += 7) {
      await page.mouse.click(spot.x, y);
      await settle(page);
      isFound = (await shown(page)).selected?.index === index;
    }
    assert(isFound, "the poll is where it is drawn");
    await page.keyboard.press(",");
    await until(page, (now) => now.selected.index === index - 1, "the previous poll");
    await page.keyboard.press(".");
    await until(page, (now) => now.selected.index === index, "the next poll");
    await page.keyboard.press("ArrowDown");
    await until(page, (now) => now.selected.index !== index, "the row below");
    await page.keyboard.press("ArrowUp");
    await settle(page);
    await page.keyboard.press("[");
    await page.keyboard.press("]");
    await page.keyboard.press("p");
    await until(page, (now) => now.pins.length > 0, "P pins");
  });
  await test(`${name}: shift+drag selects a time, a click in the ruler marks one, Escape undoes`, async () => {
    await page.keyboard.press("0");
    const { left, top, width } = await placeOf(page);
    const x = left + 210 + (width - 210) / 3;
    await page.keyboard.down("Shift");
    await page.mouse.move(x, top + 60);
    await page.mouse.down();
    await page.mouse.move(x + 200, top + 60, { steps: 4 });
    await page.mouse.up();
    await page.keyboard.up("Shift");
    await until(page, ({ range, tab }) => range && range[1] > range[0] && tab === "selection", "Shift and a drag select");
    await settle(page);
    assert((await page.$eval("#panel", (panel) => panel.textContent)).length > 40);
    await page.mouse.click(x, top + 10);
    await until(page, (now) => now.marks.length === 1, "a click in the ruler marks");
    await page.keyboard.press("Escape");
    await until(page, (now) => now.range === null, "Escape selects nothing");
  });
  await test(`${name}: search finds, counts, and goes on`, async () => {
    const word = await page.evaluate(() => {
      const { model } = window.lookback.app;
      return model.site(model.slices.site[model.slices.kind.indexOf(0)]);
    });
    await page.keyboard.press("/");
    await page.keyboard.type(word.slice(0, 6));
    await page.keyboard.press("Enter");
    const first = await until(page, (now) => now.hits > 0 && now.hit >= 0 && now.selected !== null, "search finds");
    await page.keyboard.press("Enter");
    if (first.hits > 1) await until(page, (now) => now.hit !== first.hit, "Enter goes on");
    await page.keyboard.press("Escape");
  });
  await test(`${name}: the link restores what is shown`, async () => {
    await placeOf(page, "show");
    await pause(400);
    const now = await shown(page);
    const again = await open(browser, file, now.hash);
    await pause(400);
    const there = await shown(again.page);
    assert(Math.abs(there.from - now.from) < 2 && Math.abs(there.until - now.until) < 2, `${now.hash} ${there.hash}`);
    assert.deepEqual([there.selected, there.pins, there.tab], [now.selected, now.pins, now.tab]);
    assert.deepEqual(await again.check(), []);
    await again.page.close();
  });
  await test(`${name}: all panels, the help and the brush work by keyboard and pointer`, async () => {
    await page.keyboard.press("?");
    await page.waitForSelector("[role=dialog][aria-label=Keys]");
    await page.keyboard.press("Escape");
    await page.waitForFunction("document.querySelector('[role=dialog]') === null");
    for (const tab of await page.$$("[role=tab]")) {
      await tab.click();
      await settle(page);
      assert((await page.$eval("#panel", (panel) => panel.textContent.length + panel.querySelectorAll("canvas").length)) > 0);
    }
    await page.click("#tab-details");
    await page.keyboard.press("ArrowRight");
    await until(page, (now) => now.tab === "selection", "an arrow goes to the next panel");
    await page.keyboard.press("0");
    const box = await page.$eval(".overview", (element) => ({ ...element.getBoundingClientRect().toJSON() }));
    await page.mouse.move(box.left + box.width * 0.5, box.top + 20);
    await page.mouse.down();
    await page.mouse.move(box.left + box.width * 0.7, box.top + 20, { steps: 4 });
    await page.mouse.up();
    await until(page, (now) => now.until - now.from < (before.until - before.from) / 3, "the brush zooms");
  });
  await test(`${name}: nothing went wrong: no error, no request, no violation of its policy`, async () => {
    assert.deepEqual(await check(), []);
  });
  return page;
}

const page = await interactions(demo, "demo");
await test("demo: a finding jumps to its place, with its tracks pinned and its time selected", async () => {
  await page.evaluate(() => {
    window.lookback.app.all();
  });
  await page.click(".finding");
  await settle(page);
  const { pins, range, finding } = await shown(page);
  assert.equal(finding, 0);
  assert(pins.length > 0 && range !== null);
  await page.screenshot({ path: join(pictures, "finding.png") });
});
await test("demo: pictures", async () => {
  const light = await open(browser, demo);
  await light.page.click(".finding");
  await settle(light.page);
  await light.page.screenshot({ path: join(pictures, "report.webp"), type: "webp", quality: 78 });
  await light.page.close();
  await page.evaluate(() => {
    window.lookback.app.all();
  });
  await settle(page);
  await page.screenshot({ path: join(pictures, "all.png") });
  for (const tab of ["selection", "why", "flame", "spans", "tasks", "logs"]) {
    await page.click(`#tab-${tab}`);
    await settle(page);
    await page.screenshot({ path: join(pictures, `${tab}.png`) });
  }
  const dark = await open(browser, demo, "", true);
  await dark.page.click(".finding");
  await settle(dark.page);
  await dark.page.screenshot({ path: join(pictures, "dark.png") });
  await dark.page.click("#tab-flame");
  await settle(dark.page);
  await dark.page.screenshot({ path: join(pictures, "report-dark.webp"), type: "webp", quality: 78 });
  await dark.page.close();
});
await page.close();

(await interactions(million, "a million events")).close();
await test("a million events: how fast", async () => {
  // An empty page of the same size says what the browser itself takes for it.
  const empty = join(pictures, "empty.html");
  const size = statSync(million).size;
  writeFileSync(
    empty,
    `<!doctype html><title>x</title><script type="application/octet-stream">${"A".repeat(size)}</script><script>window.lookback = {}</script>`,
  );
  const times = { page: [], empty: [] };
  for (let round = 0; round < 3; round++)
    for (const [which, file] of [
      ["page", million],
      ["empty", empty],
    ]) {
      const { page, took } = await open(browser, file);
      times[which].push(took);
      await page.close();
    }
  const best = (all) => Math.min(...all);
  const { page } = await open(browser, million);
  await page.screenshot({ path: join(pictures, "million.png") });
  const frames = await page.evaluate(async () => {
    const { app } = window.lookback;
    app.zoom(0.5);
    const gaps = [];
    let last = performance.now();
    for (let frame = 0; frame < 120; frame++) {
      app.pan(frame % 60 < 30 ? 0.01 : -0.01);
      await new Promise((then) => requestAnimationFrame(then));
      const now = performance.now();
      gaps.push(now - last);
      last = now;
    }
    const own = [...window.lookbackFrames].slice(-120);
    const empty = [];
    for (let frame = 0; frame < 60; frame++) {
      await new Promise((then) => requestAnimationFrame(then));
      const now = performance.now();
      empty.push(now - last);
      last = now;
    }
    const median = (all) => all.sort((a, b) => a - b)[all.length >> 1];
    return { frame: median(gaps), draw: median(own), worst: own[own.length - 1], empty: median(empty) };
  });
  await page.close();
  return (
    `${(size / 2 ** 20).toFixed(1)} MiB; opens in ${best(times.page).toFixed(0)} ms, ` +
    `${(best(times.page) / best(times.empty)).toFixed(1)} × an empty page of that size (${best(times.empty).toFixed(0)} ms); while it pans a frame takes ` +
    `${frames.frame.toFixed(1)} ms, of which drawing ${frames.draw.toFixed(1)} ms (at most ${frames.worst.toFixed(1)}); without it ${frames.empty.toFixed(1)} ms`
  );
});

await test("hostile names: they are text, and nothing else", async () => {
  const { page, check } = await open(browser, hostile);
  for (const tab of ["selection", "why", "flame", "spans", "tasks", "logs", "about", "details"]) {
    await page.click(`#tab-${tab}`);
    await settle(page);
  }
  const items = await page.evaluate(() => {
    const { model } = window.lookback.app;
    const all = [];
    for (let i = 0; i < model.slices.count; i++) all.push({ what: "slice", index: i });
    for (let i = 0; i < model.spans.count; i++) all.push({ what: "span", index: i });
    for (let i = 0; i < model.tasks.count; i++) all.push({ what: "task", index: i });
    for (let i = 0; i < model.notes.count; i++) all.push({ what: "note", index: i });
    return all;
  });
  for (const item of items) {
    await page.evaluate((item) => {
      window.lookback.app.select(item, true);
      if (item.what === "task") window.lookback.app.pinTask(item.index);
    }, item);
    await pause(30);
  }
  await page.screenshot({ path: join(pictures, "hostile.png") });
  const { images, scripts, broken } = await page.evaluate(() => ({
    images: document.querySelectorAll("img, svg, b:not(.about b):not(.plain b)").length,
    scripts: document.scripts.length,
    broken: window.broken,
  }));
  assert.deepEqual([images, scripts, broken], [0, 1, undefined]);
  assert.deepEqual(await check(), []);
  await page.close();
});

await test("times that numbers cannot tell apart, and spans inside of 500 others: a link to them ends, and shows something", async () => {
  const [from, until] = [2 ** 61, 2 ** 61 + 1024];
  const { page, check } = await open(
    browser,
    far,
    `#t=${from}~${until}&m=${Array.from({ length: 5000 }, (_, i) => i + 1).join("~")}`,
  );
  const now = await shown(page);
  assert(now.until > now.from && now.marks.length <= 100, JSON.stringify([now.from, now.until, now.marks.length]));
  for (let press = 0; press < 20; press++) await page.keyboard.press("w");
  await settle(page);
  const { from: after, until: end } = await shown(page);
  assert(end > after, `${after} ${end}`);
  const lanes = await page.evaluate(() => Math.max(...window.lookback.app.rows.all.map((row) => row.lanes.length)));
  assert(lanes <= 41, `${lanes} lanes`);
  await page.keyboard.press("0");
  await settle(page);
  assert.deepEqual(await check(), []);
  await page.close();
});

await test("a snapshot for which a page has no room: it says what is not all there, and shows the whole time", async () => {
  const { page, check, took } = await open(browser, large);
  const missing = await page.$eval(".missing", (note) => note.textContent);
  assert(missing.includes("put together") && missing.includes("wakes"), missing);
  const { polls, kept, gaps } = await page.evaluate(() => {
    const { model } = window.lookback.app;
    const { slices } = model;
    let [polls, gaps] = [0, 0];
    for (let i = 0; i < slices.count; i++) polls += slices.number[i];
    for (const row of model.sliceRows)
      for (let i = row.from + 1; i < row.to; i++) if (slices.start[i] < slices.end[i - 1]) gaps += 1;
    return { polls, kept: slices.count, gaps };
  });
  assert(polls > kept && gaps === 0, `${polls} ${kept} ${gaps}`);
  await page.keyboard.press("w");
  await page.screenshot({ path: join(pictures, "large.png") });
  assert.deepEqual(await check(), []);
  await page.close();
  return `${polls} slices as ${kept}, ${(statSync(large).size / 2 ** 20).toFixed(1)} MiB, opens in ${took.toFixed(0)} ms`;
});

await browser.close();
process.exit(failed > 0 ? 1 : 0);
