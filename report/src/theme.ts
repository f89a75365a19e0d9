// Colours of the canvas, for a light and a dark page. The same hue stands for the same name in both.

import { Hue, HUES } from "./rows";

export interface Theme {
  isDark: boolean;
  back: string;
  raised: string;
  line: string;
  text: string;
  soft: string;
  accent: string;
  bad: string;
  warn: string;
  good: string;
  event: string;
  /** By hue, then by how much of a pixel is busy, in quarters. */
  fills: string[][];
  /** The same, at `4 * hue + quarter`, as pixels of an image. */
  pixels: Uint32Array;
  /** What is written on a slice. */
  ink: string;
  select: string;
}

/** Hues of the wheel that are told apart well, and are neither the red of errors nor the amber of what waits for a worker. */
const WHEEL = [212, 168, 262, 190, 320, 96, 232, 140, 290, 66, 178, 246];

export function theme(isDark: boolean): Theme {
  const alphas = [0.3, 0.5, 0.75, 1];
  const pixels = new Uint32Array(4 * (Hue.First + HUES));
  const fills: string[][] = [];
  const set = (of: number, hue: number, saturation: number, light: number) => {
    fills[of] = alphas.map((alpha) => `hsl(${hue} ${saturation}% ${light}% / ${alpha})`);
    const [red, green, blue] = rgb(hue, saturation / 100, light / 100);
    alphas.forEach((alpha, i) => {
      pixels.set(new Uint32Array(new Uint8Array([red, green, blue, Math.round(alpha * 255)]).buffer), of * 4 + i);
    });
  };
  set(Hue.None, 0, 0, isDark ? 45 : 70);
  set(Hue.Parked, 220, 8, isDark ? 19 : 94);
  set(Hue.Merged, 220, 12, isDark ? 50 : 64);
  set(Hue.Waiting, 220, 10, isDark ? 32 : 84);
  set(Hue.Ready, 36, 92, isDark ? 52 : 56);
  set(Hue.Bad, 4, 76, isDark ? 58 : 56);
  set(Hue.Lock, 18, 80, isDark ? 56 : 58);
  for (let i = 0; i < HUES; i++) set(Hue.First + i, WHEEL[i % WHEEL.length]!, isDark ? 42 : 54, isDark ? 46 : 68);
  return isDark
    ? {
        isDark,
        back: "#14171c",
        raised: "#1b1f26",
        line: "#2b313b",
        text: "#e3e7ee",
        soft: "#8f99a8",
        accent: "#6ea8ff",
        bad: "#ff6b61",
        warn: "#f0b03f",
        good: "#53c28b",
        event: "#4f78ad",
        fills,
        pixels,
        ink: "#f5f7fa",
        select: "rgb(110 168 255 / 14%)",
      }
    : {
        isDark,
        back: "#ffffff",
        raised: "#f6f7f9",
        line: "#e2e5ea",
        text: "#1c232d",
        soft: "#66707f",
        accent: "#1f6feb",
        bad: "#c9302c",
        warn: "#b97700",
        good: "#1d8a55",
        event: "#8fb0e0",
        fills,
        pixels,
        ink: "#141a22",
        select: "rgb(31 111 235 / 10%)",
      };
}

/** From 0 to 255 each. */
function rgb(hue: number, saturation: number, light: number): [number, number, number] {
  const most = saturation * Math.min(light, 1 - light);
  const part = (offset: number) => {
    const at = (offset + hue / 30) % 12;
    return Math.round(255 * (light - most * Math.max(-1, Math.min(at - 3, 9 - at, 1))));
  };
  return [part(0), part(8), part(4)];
}

/** What a part of the time of a request was spent with. */
export const STATES: Record<string, string> = {
  running: "var(--running)",
  core: "var(--core)",
  blocked: "var(--blocked)",
  polled: "var(--polled)",
  ready: "var(--ready)",
  lock: "var(--lock)",
  task: "var(--task)",
  wake: "var(--wake)",
  not_woken: "var(--not-woken)",
  stopped: "var(--stopped)",
  unknown: "var(--unknown)",
};
