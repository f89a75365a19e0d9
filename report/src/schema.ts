// What the header of the data has, as far as the page uses it: see cli/src/report/page.rs, and `lookback summary --help` and
// `lookback why --help` for `summary` and `why`.

export interface Header {
  columns: { name: string; kind: "number" | "step" | "float"; count: number; bytes: number }[];
  texts: string[];
  threads: { number: number; os: number; name: string; worker: string | null }[];
  generations: Generation[];
  end: number;
  events: number;
  samples_per_second: number;
  missing: string[];
  summary: Summary;
  why: Why | null;
  program: string;
}

export interface Generation {
  number: number;
  from: number;
  until: number;
  complete: boolean;
  lost: number;
  after_gap: boolean;
}

export interface Evidence {
  what: string;
  depth: number;
  t_ns: number;
  until_ns: number | null;
  thread: number | null;
  thread_name: string | null;
  thread_worker: string | null;
  task: string | null;
  task_name: string | null;
  span: string | null;
  span_name: string | null;
  span_fields: string | null;
}

export interface Finding {
  analysis: string;
  title: string;
  ago_ns: number | null;
  score: number;
  commands: string[];
  evidence: Evidence[];
}

export interface JsonFrame {
  module?: string | null;
  offset?: number;
  left_out?: number;
  functions?: { name: string; file: string | null; line: number | null; inlined: boolean }[];
}

export interface Summary {
  file: string;
  coverage: {
    process: string | null;
    pid: number | null;
    reason: string | null;
    trigger: string | null;
    taken: string | null;
    covered_ns: number;
    window_ns: number | null;
    generations: number;
    incomplete: number[];
    gaps: number;
    events: number;
  };
  incident: {
    causes: { trigger: string; reason: string; where: Evidence | null; regions: string[]; stack: JsonFrame[] }[];
    panics: number;
  };
  end_ns: number;
  findings: Finding[];
  not_assessed: { analysis: string; because: string }[];
  losses: { lost: Record<string, number>; share: number; damaged?: unknown };
  damage: string[];
}

export interface WhyPart {
  state: string;
  words: string;
  ns: number;
  share: number;
  times: number;
  longest_ns: number;
  longest_t_ns: number;
  task?: string;
  task_name?: string;
  thread_name?: string;
  worker?: string | null;
  awaited?: string;
  frames?: JsonFrame[];
  followed?: { ns: number; parts: WhyPart[] };
}

export interface Why {
  span: { span: string; name: string; fields: string } | null;
  task: { task: string; name: string } | null;
  t_ns: number;
  from_ns: number;
  length_ns: number;
  open: boolean;
  shared: boolean;
  certain: boolean;
  parts: WhyPart[];
  longest: { t_ns: number; ns: number; state: string; words: string }[];
}
