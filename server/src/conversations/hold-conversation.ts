import { type ApiKey, keyStatusAt } from "../access/api-key.ts";
import { isAddressAllowed } from "../access/ip-allow-list.ts";
import { addressNotAllowed } from "../access/key-refusals.ts";
import type { Admitted, Caller } from "../access/rate-limiter.ts";
import type { CompletionRequest } from "../completion/completion-request.ts";
import type { Route } from "../completion/model-router.ts";
import type { CompletionServices } from "../completion/run-completion.ts";
import { BrikkError, toBrikkError } from "../errors.ts";
import type { Conversation, ConversationEnd, Ending } from "./conversation.ts";
import { shownFailure } from "./shown-failure.ts";
import { speakTurn } from "./speak-turn.ts";
import { openTranscript, type Transcript } from "./transcript.ts";
import { admitTurn, type TurnAdmission } from "./turn-admission.ts";

/**
 * Holds a conversation, turn after turn:
 *
 *   still wanted? -> key still good, also from there? -> rate limit -> the line of a request -> next
 *
 * Each turn is a request of its own, with its reservation, its row in the ledger and its place in the rate limit, and none is
 * begun when the one before could not be paid for, was stopped, or left nothing to answer. What was said stays said.
 */
export interface ConversationServices {
  readonly completion: CompletionServices;
  readonly admission: TurnAdmission;
  /** The newest known state of a key. */
  readonly keyOf: (keyId: string) => ApiKey | undefined;
  readonly requestTimeoutMs: number;
  /** What a stop waits for, and may abort. Throws the refusal of a server that takes no more. */
  readonly begin: () => { readonly controller: AbortController; end(): void };
  readonly drainBegins: AbortSignal;
  /** A fault of the gateway's own ended a conversation. */
  readonly onBroken: (requestId: string, error: unknown) => void;
}

/** Who asked for it, and was let in for the first turn. */
export interface ConversationCaller {
  readonly key: ApiKey;
  readonly remoteAddress: string;
  readonly requestId: string;
  readonly traceId: string;
  readonly admission: Admitted;
}

export interface Script {
  readonly beginning: Pick<Conversation, "id" | "kind" | "opening" | "agents" | "plannedTurns">;
  /** The turn that is next, from what was said. */
  next(said: Conversation): ScriptedTurn;
}

export interface ScriptedTurn {
  readonly round: number;
  /** Its place among the agents. */
  readonly agent: number;
  readonly language: string | undefined;
  readonly request: CompletionRequest;
  /** For the key as it is by then: what it may use can change meanwhile. */
  readonly chooseRoute: (key: ApiKey) => Route;
}

export interface HeldConversation {
  readonly transcript: Transcript;
  /** Resolves when the first agent is being asked; rejects with what refused it before, and then nothing has happened. */
  readonly begun: Promise<void>;
  /** Resolves when the last turn is settled and the end stands in the transcript, with what ended it early. Never rejects. */
  readonly over: Promise<BrikkError | undefined>;
  /** Aborts the turn under way; it is settled as what it came to. */
  stop(reason: BrikkError): void;
}

/** Throws the refusal of a server that has too much in hand. */
export function holdConversation(
  services: ConversationServices,
  caller: ConversationCaller,
  script: Script,
  hooks: {
    /** The conversation has begun, or a turn more is over. */
    readonly onProgress?: (now: Conversation) => void;
    /** Whoever keeps the conversation does so before its end is told. */
    readonly beforeEnd?: (whole: Conversation) => Promise<void>;
  } = {},
): HeldConversation {
  const hand = services.begin();
  const { signal } = hand.controller;
  const { clock } = services.completion;
  const transcript = openTranscript({
    ...script.beginning,
    requestId: caller.requestId,
    startedAtMs: clock.now(),
  });
  const begun = Promise.withResolvers<void>();
  // Who does not wait for the beginning looks at the end.
  begun.promise.catch(() => undefined);

  const callerNow = (): Caller => ({
    key: goodKey(services.keyOf(caller.key.id) ?? caller.key, caller.remoteAddress, clock.now()),
    remoteAddress: caller.remoteAddress,
  });

  /** Resolves with what ends the conversation, if this turn does; throws what refused it. */
  const speak = async (index: number): Promise<BrikkError | undefined> => {
    const { round, agent, language, request, chooseRoute } = script.next(transcript.now);
    const speaker = transcript.now.agents[agent]!;
    const { key, admission } = index === 1 ? { key: callerNow().key, admission: caller.admission } : await admit(index);
    const requestId = turnRequestId(caller.requestId, index);
    const { served, result, failure } = await speakTurn(services.completion, services, {
      key,
      admission,
      requestId,
      traceId: caller.traceId,
      request,
      chooseRoute: () => chooseRoute(key),
      provider: speaker.provider,
      signal,
      opened: ({ model: { provider, id } }) => {
        transcript.begin({ index, round, agent: speaker.name, language, requestId, provider, model: id });
        if (index > 1) return;
        hooks.onProgress?.(transcript.now);
        begun.resolve();
      },
      said: (text) => transcript.say(text),
    });
    transcript.finish(served, result);
    hooks.onProgress?.(transcript.now);
    if (signal.aborted) return toBrikkError(signal.reason);
    // A stream that was cut was heard as far as it came, and can be answered.
    return result.outcome === "completed" || result.outcome === "truncated" ? undefined : failure;
  };

  const admit = async (index: number): ReturnType<typeof admitTurn> => {
    const { drainBegins } = services;
    try {
      return await admitTurn(services.admission, callerNow, AbortSignal.any([signal, drainBegins]), (ms) =>
        transcript.wait({ index, ms }),
      );
    } catch (error) {
      throw drainBegins.aborted && !signal.aborted ? draining() : error;
    } finally {
      if (transcript.waiting) transcript.wait(undefined);
    }
  };

  /** Resolves with what ends the conversation before its last turn. */
  const hold = async (): Promise<BrikkError | undefined> => {
    for (let index = 1; index <= transcript.now.plannedTurns; index += 1) {
      try {
        if (index > 1 && services.drainBegins.aborted) throw draining();
        const failure = await speak(index);
        if (failure) return failure;
      } catch (error) {
        if (transcript.now.turns.length === 0) begun.reject(error);
        else if (!(error instanceof BrikkError)) services.onBroken(caller.requestId, error);
        return toBrikkError(error);
      }
    }
    return undefined;
  };

  const run = async (): Promise<BrikkError | undefined> => {
    try {
      const failure = await hold();
      // One that never began has no end.
      if (transcript.now.turns.length === 0) return failure;
      const end: ConversationEnd = {
        ended: failure ? endingOf(failure) : "max_turns",
        atMs: clock.now(),
        error: failure && shownFailure(services.completion.redactor, failure, caller.requestId),
      };
      await hooks.beforeEnd?.({ ...transcript.now, end });
      transcript.end(end);
      return failure;
    } finally {
      hand.end();
    }
  };

  return { transcript, begun: begun.promise, over: run(), stop: (reason) => hand.controller.abort(reason) };
}

/** What a conversation is stopped with when its caller wants no more of it. */
export const stopped = (why: string): BrikkError => new BrikkError("client_closed_request", why);

const draining = (): BrikkError =>
  new BrikkError("draining", "This server is stopping, and began no further turn.", { retryAfterMs: 1_000 });

/** A key may be revoked, expire or be kept to other addresses while its conversation goes on. */
function goodKey(key: ApiKey, address: string, nowMs: number): ApiKey {
  const status = keyStatusAt(key, nowMs);
  switch (status) {
    case "active":
      if (!isAddressAllowed(key, address)) throw addressNotAllowed(key.id, address);
      return key;
    case "revoked":
      throw new BrikkError("key_revoked", "The key was revoked, so there is no further turn.");
    case "expired":
      throw new BrikkError("key_expired", "The key has expired, so there is no further turn.");
    default:
      return status satisfies never;
  }
}

function endingOf({ code, status }: BrikkError): Ending {
  switch (code) {
    case "hard_cap_exceeded":
      return "budget";
    case "rate_limit_exceeded":
      return "rate_limit";
    case "client_closed_request":
      return "stopped";
    case "draining":
      return "draining";
    case "provider_rate_limited":
      return "failed";
    default:
      return status < 500 ? "refused" : "failed";
  }
}

/** Sane, as the caller's is, and no longer than one may be. */
const turnRequestId = (requestId: string, index: number): string => `${requestId.slice(0, 120)}.t${index}`;
