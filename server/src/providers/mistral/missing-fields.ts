import { isRecord } from "../openai-compatible/vendor-answer.ts";

type Request = Readonly<Record<string, unknown>>;

const isThere = (value: unknown): boolean => value !== undefined && value !== null && value !== false;
const isNotEmpty = (value: unknown): boolean =>
  isThere(value) && !(typeof value === "object" && Object.keys(value as object).length === 0);

/** https://docs.mistral.ai/api, "Chat completion": what is not there, or is there with fewer values. */
const MAX_TEMPERATURE = 1.5;
const REASONING_EFFORTS: ReadonlySet<unknown> = new Set(["none", "low", "medium", "high"]);

/** What of OpenAI's form changes an answer and is missing here; each with how a request is found to ask for it. */
const MISSING: readonly (readonly [what: string, isAskedFor: (request: Request) => boolean])[] = [
  ["logit_bias", ({ logit_bias: biases }) => isNotEmpty(biases)],
  ["logprobs", ({ logprobs, top_logprobs: top }) => isThere(logprobs) || (typeof top === "number" && top > 0)],
  ["output but text", ({ modalities, audio }) => isThere(audio) || hasOther(modalities, "text")],
  ["functions (deprecated), but tools", ({ functions }) => isNotEmpty(functions)],
  ["function_call (deprecated), but tool_choice", ({ function_call: call }) => isThere(call)],
  ["web_search_options", ({ web_search_options: search }) => isThere(search)],
  ["temperature above 1.5", ({ temperature }) => typeof temperature === "number" && temperature > MAX_TEMPERATURE],
  ["verbosity but medium", ({ verbosity }) => isThere(verbosity) && verbosity !== "medium"],
  ["such reasoning_effort", ({ reasoning_effort: effort }) => isThere(effort) && !REASONING_EFFORTS.has(effort)],
  [
    "tools but functions",
    ({ tools }) => recordsIn(tools).some(({ type }) => type !== undefined && type !== "function"),
  ],
  ["messages of the role function", ({ messages }) => recordsIn(messages).some(({ role }) => role === "function")],
  [
    "name in messages but a tool's",
    ({ messages }) => recordsIn(messages).some(({ role, name }) => role !== "tool" && isThere(name)),
  ],
  [
    "files in messages",
    ({ messages }) => recordsIn(messages).some(({ content }) => recordsIn(content).some(({ type }) => type === "file")),
  ],
];

export const missingHere = (request: Request): string | undefined =>
  MISSING.find(([, isAskedFor]) => isAskedFor(request))?.[0];

export const missingInEmbeddings = ({ input }: Request): string | undefined =>
  Array.isArray(input) && input.some((text) => typeof text !== "string") ? "input of tokens" : undefined;

const hasOther = (values: unknown, only: string): boolean =>
  Array.isArray(values) && values.some((value) => value !== only);
const recordsIn = (values: unknown): readonly Request[] => (Array.isArray(values) ? values.filter(isRecord) : []);
