// Times and numbers, for people.

const UNITS: [string, number][] = [
  ["s", 1e9],
  ["ms", 1e6],
  ["µs", 1e3],
  ["ns", 1],
];

/** A length of time: three digits and a unit. */
export function duration(ns: number): string {
  const length = Math.abs(ns);
  const [unit, factor] = UNITS.find(([, factor]) => length >= factor) ?? UNITS[3]!;
  const value = ns / factor;
  const size = Math.abs(value);
  const digits = unit === "ns" || size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${unit}`;
}

/** A moment, in seconds since the first event, as the other commands print it. */
export function moment(ns: number, digits = 6): string {
  const sign = ns < 0 ? "−" : "+";
  return sign + (Math.abs(ns) / 1e9).toFixed(digits);
}

export function count(value: number): string {
  return Math.round(value).toLocaleString("en");
}

export function bytes(value: number): string {
  for (const [unit, factor] of [
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ] as const)
    if (Math.abs(value) >= factor) return `${(value / factor).toPrecision(3)} ${unit}`;
  return `${count(value)} B`;
}

export function plural(value: number, of: string): string {
  return `${count(value)} ${of}${value === 1 ? "" : "s"}`;
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** A short form of a path: its last two parts. */
export function shortPlace(place: string): string {
  const parts = place.split("/");
  return parts.length > 2 ? parts.slice(-2).join("/") : place;
}

/** A function's name without the paths in it: `a::b::c<d::e>` becomes `c<e>`. */
export function shortName(name: string): string {
  let short = shortNames.get(name);
  // What looks for paths takes long for some names.
  if (short === undefined) shortNames.set(name, (short = name.replace(/[A-Za-z_][\w]*(?:<[^<>]*>)?::/g, "")));
  return short;
}

const shortNames = new Map<string, string>();
