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
  /** By hue, then by how much of a pixel is busy, in quarters. */
  fills: string[][];
  /** What is written on a slice. */
  ink: string;
  select: string;
}

/** Hues of the wheel that are told apart well, and are neither the red of errors nor the amber of what waits for a worker. */
const WHEEL = [212, 168, 262, 190, 320, 96, 232, 140, 290, 66, 178, 246];

export function theme(isDark: boolean): Theme {
  const fill = (hue: number, saturation: number, light: number) =>
    [0.3, 0.5, 0.75, 1].map((alpha) => `hsl(${hue} ${saturation}% ${light}% / ${alpha})`);
  const fills: string[][] = [];
  fills[Hue.None] = fill(0, 0, isDark ? 45 : 70);
  fills[Hue.Parked] = fill(220, 8, isDark ? 19 : 94);
  fills[Hue.Merged] = fill(220, 12, isDark ? 50 : 64);
  fills[Hue.Waiting] = fill(220, 10, isDark ? 32 : 84);
  fills[Hue.Ready] = fill(36, 92, isDark ? 52 : 56);
  fills[Hue.Bad] = fill(4, 76, isDark ? 58 : 56);
  fills[Hue.Lock] = fill(18, 80, isDark ? 56 : 58);
  for (let i = 0; i < HUES; i++) fills[Hue.First + i] = fill(WHEEL[i % WHEEL.length]!, isDark ? 42 : 54, isDark ? 46 : 68);
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
        fills,
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
        fills,
        ink: "#141a22",
        select: "rgb(31 111 235 / 10%)",
      };
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
