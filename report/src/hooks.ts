// Ties components to what is shown.

import { useEffect, useState } from "preact/hooks";
import type { App } from "./app";

/** Renders again when it changes. */
export function useApp(app: App) {
  const [, set] = useState(0);
  useEffect(
    () =>
      app.onTold(() => {
        set((n) => n + 1);
      }),
    [app],
  );
}
