/** What a request may take of this server before it is one; its body's size is a setting. */
export interface WireLimits {
  /** From the first byte of a request, or the opening of its connection, to the end of its headers. */
  readonly headersMs: number;
  /** The same, to the end of its body. */
  readonly requestMs: number;
  /** How often the two are looked at. Node's own default would let who dawdles have half a minute more. */
  readonly checkEveryMs: number;
  /** An idle connection; longer than what load balancers keep theirs, so that they never send into one that is being closed. */
  readonly keepAliveMs: number;
  /** The request line and all headers. */
  readonly maxHeaderBytes: number;
  readonly maxUrlLength: number;
}

export const WIRE_LIMITS: WireLimits = Object.freeze({
  headersMs: 20_000,
  requestMs: 60_000,
  checkEveryMs: 1_000,
  keepAliveMs: 72_000,
  maxHeaderBytes: 16 * 1_024,
  maxUrlLength: 8 * 1_024,
});
