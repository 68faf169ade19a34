import { sseData } from "../lib/sse-events.ts";
import { readWireUsage, type Usage } from "../ledger/usage.ts";

/**
 * Reads a provider's stream beside its passing: what an event is to the gateway, and what of it counts. The bytes are never
 * rebuilt, but for the one chunk that carries usage, which gets the cost.
 */
export type MeteredEvent =
  /** A comment, a keep-alive, a role: nothing a person would call output. */
  | { readonly kind: "quiet" }
  /** Text, a tool call or a finish: the answer has begun. */
  | { readonly kind: "output" }
  /** Output together with usage, or usage alone (`choices: []`). */
  | { readonly kind: "usage"; readonly output: boolean; readonly alone: boolean; readonly chunk: WireChunk }
  | { readonly kind: "done" }
  | { readonly kind: "vendor-error"; readonly message: string }
  | { readonly kind: "malformed" };

const QUIET: MeteredEvent = { kind: "quiet" };
const OUTPUT: MeteredEvent = { kind: "output" };
const DONE: MeteredEvent = { kind: "done" };
const MALFORMED: MeteredEvent = { kind: "malformed" };

export interface WireChunk {
  readonly id?: unknown;
  readonly object?: unknown;
  readonly created?: unknown;
  readonly choices?: readonly WireChoice[];
  readonly usage?: unknown;
  readonly error?: unknown;
}

interface WireChoice {
  readonly index?: number;
  readonly delta?: Readonly<Record<string, unknown>>;
  readonly finish_reason?: string | null;
}

export class StreamMeter {
  /** The provider's own count, once it came. */
  usage: Usage | undefined;
  /** The same as it stood on the wire. */
  wireUsage: unknown;
  /** The first chunk that was one, by which the stream is known to its reader. */
  head: Pick<WireChunk, "id" | "created"> | undefined;
  /** One choice that holds nothing but text: what another model could go on with. */
  plain = true;
  #text: string[] = [];
  #soundTexts: number | undefined;
  #begun = new Set<number>();
  #finished = new Set<number>();

  read(event: Buffer): MeteredEvent {
    const sound = this.#text.length;
    const read = this.#readEvent(event);
    if (read.kind === "malformed" || read.kind === "vendor-error") this.#soundTexts ??= sound;
    return read;
  }

  #readEvent(event: Buffer): MeteredEvent {
    const data = sseData(event);
    if (data === undefined) return QUIET;
    if (data === "[DONE]") return DONE;
    let chunk: WireChunk;
    try {
      chunk = JSON.parse(data) as WireChunk;
    } catch {
      return MALFORMED;
    }
    if (typeof chunk !== "object" || chunk === null) return MALFORMED;
    if (chunk.error !== undefined && chunk.error !== null)
      return { kind: "vendor-error", message: vendorMessage(chunk.error) };
    // An error without a wrapping, behind which some servers send [DONE] all the same.
    if (chunk.object === "error") return { kind: "vendor-error", message: vendorMessage(chunk) };
    this.head ??= { id: chunk.id, created: chunk.created };
    if (!Array.isArray(chunk.choices)) return chunk.usage ? this.#readUsage(chunk, false) : QUIET;
    let output = false;
    for (const choice of chunk.choices as WireChoice[]) {
      if (typeof choice !== "object" || choice === null) return MALFORMED;
      const index = choice.index ?? 0;
      this.#begun.add(index);
      if (index !== 0) this.plain = false;
      if (choice.delta && this.#collect(choice.delta)) output = true;
      if (choice.finish_reason === "error")
        return { kind: "vendor-error", message: "the answer ended with finish_reason error" };
      if (typeof choice.finish_reason === "string") {
        this.#finished.add(index);
        output = true;
      }
    }
    if (chunk.usage) return this.#readUsage(chunk, output);
    return output ? OUTPUT : QUIET;
  }

  /** Every choice said why it ended: the answer is whole, with or without `[DONE]`. */
  get finished(): boolean {
    return this.#begun.size > 0 && this.#finished.size === this.#begun.size;
  }

  /** What was produced so far, for an estimate. */
  get text(): readonly string[] {
    return this.#text;
  }

  /** What was said before anything was wrong with the stream: so much of it is passed on. */
  get soundText(): string {
    return this.#text.slice(0, this.#soundTexts).join("");
  }

  #readUsage(chunk: WireChunk, output: boolean): MeteredEvent {
    this.usage = readWireUsage(chunk.usage) ?? this.usage;
    this.wireUsage = chunk.usage;
    return { kind: "usage", output, alone: !chunk.choices?.length, chunk };
  }

  /** Keeps every text of the delta but its role; true when there was any. */
  #collect(delta: Readonly<Record<string, unknown>>): boolean {
    let found = false;
    for (const name in delta) {
      const value = delta[name];
      if (name === "role" || value === null || value === "" || (Array.isArray(value) && value.length === 0)) continue;
      if (name !== "content" || typeof value !== "string") this.plain = false;
      if (typeof value === "string") {
        this.#text.push(value);
        found = true;
      } else if (typeof value === "object") found = this.#collectParts(value) || found;
    }
    return found;
  }

  #collectParts(value: object): boolean {
    let found = Array.isArray(value) && value.length > 0;
    for (const [name, part] of Object.entries(value) as [string, unknown][]) {
      if (typeof part === "string") {
        if (name === "id" || name === "type" || part === "") continue;
        this.#text.push(part);
        found = true;
      } else if (typeof part === "object" && part !== null) found = this.#collectParts(part) || found;
    }
    return found;
  }
}

function vendorMessage(error: unknown): string {
  const message = typeof error === "object" && error !== null && "message" in error ? error.message : error;
  return typeof message === "string" ? message.slice(0, 500) : "no reason given";
}
