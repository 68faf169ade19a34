import { connect, type Socket } from "node:net";

export interface RawAnswer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** What a client that no library holds back sends to the gateway, byte for byte, and all that it is told until it is cut off. */
export interface RawCaller {
  readonly socket: Socket;
  send(bytes: string): void;
  /** What came so far, as whole answers. */
  answers(): readonly RawAnswer[];
  /** When the server has closed the connection. */
  readonly closed: Promise<readonly RawAnswer[]>;
}

/** `from`: which of this machine's own addresses it calls from. */
export const callRaw = (url: string, from = "127.0.0.1"): Promise<RawCaller> =>
  connectRaw({ port: Number(new URL(url).port), host: "127.0.0.1", localAddress: from });

/** The same, to any of this machine's addresses. */
export async function connectRaw(to: {
  readonly host: string;
  readonly port: number;
  readonly localAddress?: string;
}): Promise<RawCaller> {
  const socket = connect(to);
  let received = "";
  socket.on("data", (bytes: Buffer) => void (received += bytes.toString("latin1")));
  // A connection that is reset is closed as well.
  socket.on("error", () => undefined);
  const closed = new Promise<readonly RawAnswer[]>((resolve) => socket.once("close", () => resolve(parse(received))));
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  return { socket, send: (bytes) => void socket.write(bytes, "latin1"), answers: () => parse(received), closed };
}

function parse(received: string): RawAnswer[] {
  const answers: RawAnswer[] = [];
  for (let rest = received; rest !== "";) {
    const headEnd = rest.indexOf("\r\n\r\n");
    if (headEnd === -1) break;
    const [statusLine = "", ...lines] = rest.slice(0, headEnd).split("\r\n");
    const headers = Object.fromEntries(
      lines.map((line) => {
        const colon = line.indexOf(":");
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    const bodyEnd = headEnd + 4 + Number(headers["content-length"] ?? 0);
    answers.push({ status: Number(statusLine.split(" ")[1]), headers, body: rest.slice(headEnd + 4, bodyEnd) });
    rest = rest.slice(bodyEnd);
  }
  return answers;
}
