// Starts the page: reads the data, and puts canvas and panels together.

import { render } from "preact";
import { App } from "./app";
import { decode } from "./decode";
import { Page } from "./page";
import { Model } from "./model";

async function start() {
  const place = document.getElementById("app")!;
  const began = performance.now();
  try {
    const data = document.getElementById("data")!;
    const text = data.textContent.trim();
    data.remove();
    const app = new App(new Model(await decode(text)));
    const { coverage } = app.model.header.summary;
    document.title = `${coverage.reason ?? coverage.process ?? "lookback"} · lookback report`;
    place.replaceChildren();
    render(<Page app={app} />, place);
    app.readHash();
    window.addEventListener("hashchange", () => {
      app.readHash();
    });
    requestAnimationFrame(() => {
      // What the tests of the page read.
      Object.assign(window, { lookback: { app, ready: performance.now(), read: performance.now() - began } });
    });
  } catch (error) {
    const line = document.createElement("p");
    line.className = "boot";
    line.textContent = `This page cannot be shown: ${error instanceof Error ? error.message : String(error)}. A browser of 2023 or newer is needed.`;
    place.replaceChildren(line);
    throw error;
  }
}

void start();
