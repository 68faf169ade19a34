import { type Dispatcher, Pool } from "undici";
import { createConnector } from "../lib/connector.ts";
import { ProviderError, type ResponseHeaders } from "./provider.ts";

/**
 * Moves bytes between the gateway and one provider over kept-alive connections (TLS verified, HTTP/1.1). A body is handed
 * on as it arrives and the socket is paused when the reader falls behind, so that a slow caller costs bounded memory.
 */
export interface UpstreamRequest {
  /** POST when absent. */
  readonly method?: "GET" | "POST";
  /** Path and query on the provider's origin. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export interface UpstreamResponse {
  readonly status: number;
  readonly headers: ResponseHeaders;
  /** Chunks as they come. Throws ProviderError (`stream-broken`), or the signal's reason, when the body does not end well. */
  readonly body: AsyncIterable<Buffer>;
}

export interface TransportOptions {
  readonly provider: string;
  readonly origin: string;
  readonly connectTimeoutMs: number;
  readonly maxConnections: number;
  /** Whether the provider may have an address inside a private network. */
  readonly allowPrivateAddresses: boolean;
}

export interface Transport {
  send(request: UpstreamRequest, signal: AbortSignal): Promise<UpstreamResponse>;
  /** Takes nothing new, finishes what is in hand, then closes the connections. */
  drain(): Promise<void>;
  close(): Promise<void>;
}

export function createTransport(options: TransportOptions): Transport {
  const pool = new Pool(options.origin, {
    connections: options.maxConnections,
    allowH2: false,
    connect: createConnector({
      timeoutMs: options.connectTimeoutMs,
      allowPrivateAddresses: options.allowPrivateAddresses,
    }),
    // Silence is timed where it is known what counts as a word (completion/attempt-timer.ts), and ends the exchange by its signal.
    headersTimeout: 0,
    bodyTimeout: 0,
    keepAliveTimeout: 30_000,
  });
  return {
    send(request, signal) {
      return new Promise((resolve, reject) => {
        const exchange = new Exchange(options.provider, signal, resolve, reject);
        if (signal.aborted) return exchange.stop();
        signal.addEventListener("abort", exchange.stop);
        pool.dispatch(
          {
            method: request.method ?? "POST",
            path: request.path,
            headers:
              request.method === "GET"
                ? request.headers
                : { ...request.headers, "content-length": String(request.body.length) },
            body: request.method === "GET" ? null : request.body,
          },
          exchange,
        );
      });
    },
    drain: () => pool.close(),
    close: () => pool.destroy(),
  };
}

const HIGH_WATER_BYTES = 64 * 1024;
const FAREWELL_MS = 250;

/** One request and its answer: undici pushes, the reader pulls, and the socket waits in between. */
class Exchange implements Dispatcher.DispatchHandler, AsyncIterable<Buffer>, AsyncIterator<Buffer> {
  readonly #provider: string;
  readonly #signal: AbortSignal;
  readonly #resolve: (response: UpstreamResponse) => void;
  readonly #reject: (error: unknown) => void;
  #controller: Dispatcher.DispatchController | undefined;
  #answered = false;
  #ended = false;
  #error: Error | undefined;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #farewell: NodeJS.Timeout | undefined;
  #reader: { resolve: (result: IteratorResult<Buffer>) => void; reject: (error: unknown) => void } | undefined;

  constructor(
    provider: string,
    signal: AbortSignal,
    resolve: (response: UpstreamResponse) => void,
    reject: (error: unknown) => void,
  ) {
    this.#provider = provider;
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /** The caller left or a timer ended: closes the socket and tells whoever waits. */
  readonly stop = (): void => {
    const reason = this.#signal.reason as Error;
    this.#controller?.abort(reason);
    this.#fail(reason);
  };

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#ended) controller.abort(this.#error ?? new Error("the request has ended"));
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: ResponseHeaders): void {
    if (status < 200) return;
    this.#answered = true;
    this.#resolve({ status, headers, body: this });
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#ended) return;
    if (this.#reader) {
      const { resolve } = this.#reader;
      this.#reader = undefined;
      resolve({ done: false, value: chunk });
      return;
    }
    this.#queue.push(chunk);
    this.#queuedBytes += chunk.length;
    if (this.#queuedBytes > HIGH_WATER_BYTES) controller.pause();
  }

  onResponseEnd(): void {
    clearTimeout(this.#farewell);
    this.#finish();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    clearTimeout(this.#farewell);
    this.#fail(this.#signal.aborted ? (this.#signal.reason as Error) : this.#explain(error));
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Buffer>> {
    const chunk = this.#queue.shift();
    if (chunk) {
      this.#queuedBytes -= chunk.length;
      if (this.#queuedBytes <= HIGH_WATER_BYTES && this.#controller?.paused) this.#controller.resume();
      return Promise.resolve({ done: false, value: chunk });
    }
    if (this.#error !== undefined) return Promise.reject(this.#error);
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }

  /**
   * The reader needs no more. What little follows an answer's end is read and dropped, so that the connection can serve
   * again; a provider that goes on all the same is cut off.
   */
  return(): Promise<IteratorResult<Buffer>> {
    if (!this.#ended) {
      const controller = this.#controller;
      this.#finish();
      this.#queue = [];
      if (controller?.paused) controller.resume();
      this.#farewell = setTimeout(() => controller?.abort(new Error("the reader left")), FAREWELL_MS);
      this.#farewell.unref();
    }
    return Promise.resolve({ done: true, value: undefined });
  }

  #finish(): void {
    this.#ended = true;
    this.#signal.removeEventListener("abort", this.stop);
    this.#reader?.resolve({ done: true, value: undefined });
    this.#reader = undefined;
  }

  #fail(error: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#signal.removeEventListener("abort", this.stop);
    if (!this.#answered) this.#reject(error);
    this.#reader?.reject(error);
    this.#reader = undefined;
  }

  #explain(error: Error): ProviderError {
    const code = (error as { code?: string }).code;
    const info = { provider: this.#provider, cause: error };
    switch (code) {
      case "UND_ERR_CONNECT_TIMEOUT":
        return new ProviderError("connect-timeout", "No connection to the provider came about in time.", info);
      case "ERR_PRIVATE_ADDRESS":
        return new ProviderError("unreachable", "The provider has an address that is not allowed here.", info);
      default:
        return this.#answered
          ? new ProviderError(
              "stream-broken",
              "The connection to the provider broke in the middle of its answer.",
              info,
            )
          : new ProviderError("unreachable", "The provider could not be reached.", info);
    }
  }
}
