import { z } from "zod";

export const errorBody = z
  .object({
    error: z.object({
      message: z.string().describe("What happened, why, and what to do next."),
      type: z.string().describe("OpenAI's error type, so that its SDKs raise their own classes."),
      code: z.string().describe("The stable name of the error."),
      param: z.string().nullable().describe("The part of the request at fault."),
      request_id: z.string(),
      details: z.looseObject({}).nullable().describe("The rule and its numbers."),
    }),
  })
  .meta({
    id: "Error",
    example: {
      error: { message: "The key is not one of this server's.", type: "authentication_error", code: "invalid_api_key", param: null, request_id: "req_example", details: null },
    },
  });

/** The refusals that any route behind the door can give. */
export const refusals = { 400: errorBody, 401: errorBody, 429: errorBody, 500: errorBody, 503: errorBody };
/** Those of a route that calls a provider. */
export const completionRefusals = { ...refusals, 402: errorBody, 404: errorBody, 413: errorBody, 415: errorBody, 422: errorBody, 502: errorBody, 504: errorBody };
