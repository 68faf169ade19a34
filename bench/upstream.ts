import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { BEAT_MS, PACED_USER, plainAnswer, streamPieces } from "./workload.ts";

/**
 * Stands in for OpenAI: the same answer at once, every time. Its own process, so that its CPU is not the gateway's. Each
 * chunk of a stream is a write of its own, one turn of the event loop apart, or one beat apart when asked to.
 */
const whole = Buffer.from(plainAnswer());
const streams = new Map<number, readonly Buffer[]>();

function piecesOf(chunks: number): readonly Buffer[] {
  let pieces = streams.get(chunks);
  if (!pieces) streams.set(chunks, (pieces = streamPieces(chunks).map((text) => Buffer.from(text))));
  return pieces;
}

interface Playing {
  readonly response: ServerResponse;
  readonly pieces: readonly Buffer[];
  next: number;
}

const playing = new Set<Playing>();

function writeNext(play: Playing): boolean {
  const piece = play.pieces[play.next++]!;
  if (play.next < play.pieces.length) {
    play.response.write(piece);
    return true;
  }
  play.response.end(piece);
  return false;
}

function playAtOnce(play: Playing): void {
  if (!play.response.destroyed && writeNext(play)) setImmediate(playAtOnce, play);
}

setInterval(() => {
  for (const play of playing) if (play.response.destroyed || !writeNext(play)) playing.delete(play);
}, BEAT_MS);

const server = createServer({ keepAliveTimeout: 120_000 }, (request, response) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    const asked = JSON.parse(Buffer.concat(chunks).toString("utf8")) as {
      stream?: boolean;
      max_tokens: number;
      user?: string;
    };
    if (asked.stream !== true) {
      response.writeHead(200, { "content-type": "application/json", "content-length": whole.length });
      response.end(whole);
      return;
    }
    response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" });
    const play: Playing = { response, pieces: piecesOf(asked.max_tokens), next: 0 };
    if (asked.user === PACED_USER) playing.add(play);
    else playAtOnce(play);
  });
});
server.listen(0, "127.0.0.1", () => process.send!({ port: (server.address() as AddressInfo).port }));
process.on("disconnect", () => process.exit(0));
