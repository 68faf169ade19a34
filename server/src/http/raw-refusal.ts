import { STATUS_CODES } from "node:http";
import type { BrikkError } from "../errors.ts";
import { newRequestId } from "../lib/ids.ts";
import { ANSWER_HEADERS } from "./security-headers.ts";

/** A whole HTTP/1.1 answer, for a socket on which no request was read; the connection has to be closed behind it. */
export function rawRefusal(error: BrikkError, extra: Readonly<Record<string, string>> = {}): string {
  const requestId = newRequestId();
  const body = JSON.stringify(error.body(requestId));
  const headers = {
    ...ANSWER_HEADERS,
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(body),
    "x-request-id": requestId,
    ...error.headers(),
    ...extra,
    connection: "close",
  };
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}\r\n${head.join("")}\r\n${body}`;
}
