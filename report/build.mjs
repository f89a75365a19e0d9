// Makes cli/src/report/page.html: all but the data, in one file. Its Content-Security-Policy allows this script and this style, by
// their hashes, and nothing else: no network, no other script.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "../cli/src/report/page.html");

async function bundle(entry) {
  const result = await build({
    entryPoints: [join(here, entry)],
    absWorkingDir: here,
    bundle: true,
    write: false,
    minify: true,
    format: "iife",
    target: "es2022",
    jsx: "automatic",
    jsxImportSource: "preact",
    charset: "utf8",
    legalComments: "none",
    logLevel: "warning",
  });
  return result.outputFiles[0].text.trim().replaceAll("</", "<\\/");
}

const hash = (text) => `'sha256-${createHash("sha256").update(text, "utf8").digest("base64")}'`;
const script = await bundle("src/main.tsx");
const style = await bundle("src/style.css");
const policy = [
  "default-src 'none'",
  `script-src ${hash(script)}`,
  `style-src ${hash(style)}`,
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");
const parts = { "@POLICY@": policy, "@STYLE@": style, "@SCRIPT@": script };
const template = readFileSync(join(here, "src/page.html"), "utf8");
const page = template.replace(/@(POLICY|STYLE|SCRIPT)@/g, (mark) => parts[mark]);
if (page.split("@DATA@").length !== 2) throw new Error("@DATA@ must be there once");
mkdirSync(dirname(out), { recursive: true });
writeFileSync(out, page);
console.log(`${out}: ${page.length} bytes`);
