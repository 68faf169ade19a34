import type { ZodFastifySchemaValidationError } from "fastify-type-provider-zod";

/** One thing that is wrong with a request, under OpenAI's way of naming its part: `messages[0].role`. */
export interface SchemaFault {
  readonly param: string;
  readonly message: string;
}

interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  /** Of a union: what each branch finds wrong. */
  readonly errors?: readonly (readonly Issue[])[];
}

/** What a route's schemas find wrong. "None of these fits" helps nobody, so of a union the branch speaks that fits furthest. */
export const schemaFaults = (validation: readonly ZodFastifySchemaValidationError[]): readonly SchemaFault[] =>
  validation.flatMap(({ instancePath, message, params }) =>
    faultsOf({
      path: instancePath.split("/").slice(1),
      message: message ?? "is not accepted",
      ...(params as Pick<Issue, "errors">),
    }),
  );

function faultsOf({ path, message, errors = [] }: Issue): readonly SchemaFault[] {
  const [first, ...others] = errors;
  const furthest = first && others.reduce((best, branch) => (depthOf(branch) > depthOf(best) ? branch : best), first);
  if (furthest === undefined || depthOf(furthest) === 0) return [{ param: paramOf(path), message }];
  return furthest.flatMap((issue) => faultsOf({ ...issue, path: [...path, ...issue.path] }));
}

/** How deep a branch fits before anything is wrong. */
const depthOf = (branch: readonly Issue[]): number =>
  branch.reduce((least, { path }) => Math.min(least, path.length), Number.POSITIVE_INFINITY);

const paramOf = (path: readonly PropertyKey[]): string =>
  path
    .map(String)
    .filter((part) => part !== "")
    .map((part, index) => (/^\d+$/.test(part) ? `[${part}]` : index === 0 ? part : `.${part}`))
    .join("");
