import type { IncomingMessage } from "node:http";

const LARGEST_BYTES = 20 * 1024 * 1024;

export type RequestBody =
  | { kind: "json"; value: unknown }
  | { kind: "not-json" }
  | { kind: "too-large" }
  | { kind: "broken-off" };

/** Reads a JSON body of at most 20 MB. */
export function readBody(request: IncomingMessage): Promise<RequestBody> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size <= LARGEST_BYTES) chunks.push(chunk);
    });
    request.on("end", () => resolve(size > LARGEST_BYTES ? { kind: "too-large" } : parseBody(chunks)));
    request.on("error", () => resolve({ kind: "broken-off" }));
    request.on("close", () => resolve({ kind: "broken-off" }));
  });
}

function parseBody(chunks: readonly Buffer[]): RequestBody {
  const [only] = chunks;
  const text = (chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks)).toString("utf8");
  try {
    return { kind: "json", value: JSON.parse(text) as unknown };
  } catch {
    return { kind: "not-json" };
  }
}
