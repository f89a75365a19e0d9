// The data of the page: see cli/src/report/page.rs for its form.

import type { Header } from "./schema";

export type Column = Float64Array;

export interface Data {
  header: Header;
  columns: Map<string, Column>;
}

export async function decode(text: string): Promise<Data> {
  const bytes = await inflate(fromBase64(text));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length))) as Header;
  const columns = new Map<string, Column>();
  let at = 4 + length;
  for (const { name, kind, count, bytes: size } of header.columns) {
    const part = bytes.subarray(at, at + size);
    at += size;
    if (kind === "float") {
      const values = new Float64Array(count);
      for (let i = 0; i < count; i++) values[i] = view.getFloat64(at - size + 8 * i, true);
      columns.set(name, values);
    } else columns.set(name, integers(part, count, kind === "step"));
  }
  return { header, columns };
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const native = (Uint8Array as unknown as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> }).fromBase64;
  if (native) return native(text);
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

async function inflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** LEB128; exact up to 2^53. `isStep`: zigzag-encoded differences. */
function integers(bytes: Uint8Array, count: number, isStep: boolean): Column {
  const values = new Float64Array(count);
  let at = 0;
  let before = 0;
  for (let i = 0; i < count; i++) {
    let byte = bytes[at++]!;
    let value = byte & 0x7f;
    // Most are short enough for 32 bits.
    let shift = 7;
    while (byte >= 0x80 && shift < 28) {
      byte = bytes[at++]!;
      value |= (byte & 0x7f) << shift;
      shift += 7;
    }
    let isSmall = true;
    if (byte >= 0x80) {
      isSmall = false;
      let factor = 2 ** shift;
      while (byte >= 0x80) {
        byte = bytes[at++]!;
        value += (byte & 0x7f) * factor;
        factor *= 128;
      }
    }
    if (isStep) {
      const half = isSmall ? value >>> 1 : Math.floor(value / 2);
      const isOdd = isSmall ? (value & 1) === 1 : value % 2 === 1;
      before += isOdd ? -half - 1 : half;
      values[i] = before;
    } else values[i] = value;
  }
  return values;
}
