// A page in Chromium, without a network, with everything noted that should not be.
import puppeteer from "puppeteer-core";
import { existsSync } from "node:fs";
import { pathToFileURL } from "node:url";

export function chromium() {
  const asked = process.env.CHROMIUM;
  return [asked, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
    (path) => path && existsSync(path),
  );
}

export async function launch() {
  const isRoot = process.getuid?.() === 0;
  return puppeteer.launch({
    executablePath: chromium(),
    pipe: true,
    args: [
      ...(isRoot ? ["--no-sandbox"] : []),
      "--disable-dev-shm-usage",
      "--force-device-scale-factor=1",
      "--disable-background-networking",
    ],
  });
}

/** Opens a page. `wrong` collects errors, requests and violations of its policy. */
export async function open(browser, file, hash = "", dark = false) {
  const page = await browser.newPage();
  await page.setViewport({ width: 1440, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
  const wrong = [];
  const address = pathToFileURL(file).href;
  page.on("console", (message) => wrong.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    wrong.push("a dialog");
    void dialog.dismiss();
  });
  page.on("request", (request) => {
    if (request.url().split("#")[0] !== address && !request.url().startsWith("blob:"))
      wrong.push(`request: ${request.url().slice(0, 200)}`);
  });
  await page.evaluateOnNewDocument(() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
      window.violations.push(`${event.violatedDirective} ${event.blockedURI}`),
    );
  });
  const began = performance.now();
  await page.goto(address + hash, { waitUntil: "load" });
  await page.waitForFunction("window.lookback !== undefined", { timeout: 60_000 });
  const took = performance.now() - began;
  const check = async () => {
    const violations = await page.evaluate("window.violations");
    return [...wrong, ...violations.map((violation) => `policy: ${violation}`)];
  };
  return { page, took, check };
}

export const pause = (ms) => new Promise((then) => setTimeout(then, ms));
