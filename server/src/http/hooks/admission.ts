import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ANONYMOUS_KEY_ID, type ApiKey } from "../../access/api-key.ts";
import type { Authenticate, SecretUse } from "../../access/authenticate.ts";
import { isAddressAllowed } from "../../access/ip-allow-list.ts";
import { addressNotAllowed } from "../../access/key-refusals.ts";
import { rateLimitHeaders } from "../../access/rate-limit-headers.ts";
import { rateLimitRefusal } from "../../access/rate-limit-refusal.ts";
import type { Admission, Admitted, RateLimiter } from "../../access/rate-limiter.ts";
import { createWrongCredentials } from "../../access/wrong-credentials.ts";
import { BrikkError } from "../../errors.ts";
import type { Verified, VerifySignature } from "../../access/verify-signature.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { Connections } from "../connections.ts";
import type { HostCheck } from "../host-check.ts";
import type { InFlight } from "../in-flight.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Who calls; set on every route that is not marked open. */
    key: ApiKey;
    /** Where its tokens are charged; set on the same routes. */
    admission: Admitted;
  }
  interface FastifyContextConfig {
    /** Served without a key and without a rate limit: health, docs, metrics. Every other route is closed, or `admin`. */
    open?: boolean;
    /** Gives the answer of a rotation again, also to the secret that the rotation ended. */
    repeatsRotation?: boolean;
    /** Looks after a run, whose turns hold the key's slots: it takes none, or a key with one could not stop what it began. */
    withoutSlot?: true;
  }
}

export interface AdmissionOptions {
  readonly authenticate: Authenticate;
  readonly verifySignature: VerifySignature;
  readonly rateLimiter: RateLimiter;
  readonly connections: Connections;
  /** For callers without a key. */
  readonly hostRefusal: HostCheck;
  readonly clock: Clock;
  readonly inFlight: InFlight;
  readonly metrics: Metrics;
}

const WRONG_KEYS_PER_MIN = 60;

/**
 * draining or overloaded? -> authenticate -> allowed from there? -> signed? -> rate limit, before a byte of the body is read.
 *
 * For an address that has sent too many wrong keys no key is looked for in storage any more. One that memory knows is still
 * let in: whoever shares the address with the guesser goes on, and guessing costs this server a look into a map.
 */
export function registerAdmission(app: FastifyInstance, options: AdmissionOptions): void {
  const { authenticate, verifySignature, rateLimiter, connections, inFlight, metrics } = options;
  const wrongKeys = createWrongCredentials({
    clock: options.clock,
    mostPerMin: WRONG_KEYS_PER_MIN,
    rule: "wrong-keys",
    sentence: (seconds) =>
      `Too many wrong keys came from this address. A key that this server has not seen yet is looked for again in ${seconds} s.`,
  });

  /** A promise only when who calls, whether a nonce is new, or the limits cannot be told from memory. */
  function enter(request: FastifyRequest, reply: FastifyReply): Promise<void> | undefined {
    const refusal = inFlight.refusal();
    if (refusal) {
      if (refusal.code === "draining") reply.header("connection", "close");
      throw refusal;
    }
    const found = identify(request);
    if (found instanceof Promise) return found.then((key) => admit(request, reply, key));
    return admit(request, reply, found);
  }

  function identify(request: FastifyRequest): ApiKey | Promise<ApiKey> {
    const tooMany = wrongKeys.refusal(request.ip);
    try {
      const found = authenticate(request.headers, secretUseOf(request), tooMany === undefined ? "storage" : "memory");
      if (!(found instanceof Promise)) return found;
      return found.catch((error: unknown) => {
        throw noted(request, error, tooMany);
      });
    } catch (error) {
      throw noted(request, error, tooMany);
    }
  }

  /** The error that the caller is shown. */
  function noted(request: FastifyRequest, error: unknown, tooMany: BrikkError | undefined): unknown {
    if (!(error instanceof BrikkError) || error.code !== "invalid_api_key") return error;
    metrics.wrongCredentials.inc({ kind: "key", answer: tooMany === undefined ? "refused" : "limited" });
    if (tooMany === undefined) wrongKeys.count(request.ip);
    return tooMany ?? error;
  }

  function admit(request: FastifyRequest, reply: FastifyReply, key: ApiKey): Promise<void> | undefined {
    request.key = key;
    const misdirected = key.id === ANONYMOUS_KEY_ID ? options.hostRefusal(request.raw) : undefined;
    if (misdirected !== undefined) throw misdirected;
    if (!isAddressAllowed(key, request.ip)) throw addressNotAllowed(key.id, request.ip);
    const verified = verifySignature(request.raw, key);
    if (verified instanceof Promise) return verified.then((late) => proceed(request, reply, late));
    return proceed(request, reply, verified);
  }

  function proceed(request: FastifyRequest, reply: FastifyReply, verified: Verified): Promise<void> | undefined {
    const { key, socket } = request;
    request.signedDigest = verified.contentDigest;
    // Not before the signature: a stolen key alone vouches for no connection.
    if (key.id !== ANONYMOUS_KEY_ID) connections.vouch(socket);
    else {
      const crowded = connections.refusal(socket);
      if (crowded !== undefined) {
        reply.header("connection", "close");
        throw crowded;
      }
    }
    return limit(request, reply, key);
  }

  function limit(request: FastifyRequest, reply: FastifyReply, key: ApiKey): Promise<void> | undefined {
    const { withoutSlot } = request.routeOptions.config;
    const admission = rateLimiter.admit({ key, remoteAddress: request.ip, withoutSlot });
    if (admission instanceof Promise) return admission.then((decided) => take(request, reply, decided));
    take(request, reply, admission);
    return undefined;
  }

  function take(request: FastifyRequest, reply: FastifyReply, admission: Admission): void {
    reply.headers(rateLimitHeaders(admission));
    if (!admission.allowed) {
      metrics.rateLimited.inc({ rule: admission.refusedBy.name });
      throw rateLimitRefusal(request.key, admission);
    }
    request.admission = admission;
    if (!admission.release) return;
    // Comes once for every response, also when its connection breaks, when it was hijacked, or when it was never begun.
    reply.raw.once("close", admission.release);
    // Who has left already closes nothing any more.
    if (reply.raw.destroyed) admission.release();
  }

  app.decorateRequest("key", null as unknown as ApiKey);
  app.decorateRequest("admission", null as unknown as Admitted);
  // Fastify takes a throw or a promise in place of `done`.
  app.addHook("onRequest", (request, reply, done) => {
    const { open, admin } = request.routeOptions.config;
    if (open === true || admin === true || request.is404) return done();
    const entering = enter(request, reply);
    if (entering) return entering;
    done();
  });
}

/** The slot outlasts the answer: what the request began goes on when its caller leaves, and gives the slot back itself. */
export function keepSlot({ admission }: FastifyRequest, { raw }: FastifyReply): void {
  if (admission.release) raw.off("close", admission.release);
}

const secretUseOf = ({ routeOptions, headers }: FastifyRequest): SecretUse =>
  routeOptions.config.repeatsRotation === true && headers["idempotency-key"] !== undefined
    ? "repeat-of-rotation"
    : "call";
