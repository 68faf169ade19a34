import { BrikkError } from "../errors.ts";

/** The gateway itself ended the request: the server stops, or the request's deadline is over. */
export const isEndedByGateway = (error: unknown): boolean =>
  error instanceof BrikkError && (error.code === "draining" || error.code === "deadline_exceeded");

/** A gateway that ends a request aborts too, but then the caller is still there and must be told. */
export const callerLeft = (signal: AbortSignal): boolean => signal.aborted && !isEndedByGateway(signal.reason);
