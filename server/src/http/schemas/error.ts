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
      error: {
        message: "The key is not one of this server's.",
        type: "authentication_error",
        code: "invalid_api_key",
        param: null,
        request_id: "req_example",
        details: null,
      },
    },
  });

export const refusal = (when: string): typeof errorBody => errorBody.describe(when);

/** The refusals that any route behind the door can give. */
export const refusals = {
  400: refusal("The request cannot be understood; `param` names the part."),
  401: refusal("The key is missing, unknown, expired or revoked."),
  403: refusal("The key may not be used from the caller's address."),
  429: refusal("A rate limit is reached; `Retry-After` says for how long."),
  500: refusal("A fault of the gateway's own."),
  503: refusal("Stopping, or out of reach of its storage or of every provider."),
};
/** Those of a route for administrators. */
export const adminRefusals = {
  401: refusal("The admin token is missing or wrong."),
  429: refusal("Too many wrong admin tokens came from this address."),
  500: refusals[500],
};
/** Those of a route that takes a body. */
export const bodyRefusals = {
  413: refusal("The body is larger than this server accepts."),
  415: refusal("The body is not JSON."),
};
/** Those of a route that calls a provider. */
export const completionRefusals = {
  ...refusals,
  ...bodyRefusals,
  402: refusal("The request does not fit in what is left of the budget."),
  403: refusal("The key may not use the model; `details` names the rule and what is allowed."),
  404: refusal("No configured provider offers the model."),
  422: refusal("The provider finds the request's content wrong."),
  502: refusal("The provider failed, and so did every fallback there was."),
  504: refusal("The provider did not answer in time."),
};
