import { after } from "node:test";
import { startSimulator } from "../src/simulator.ts";
import type { Simulator, SimulatorOptions } from "../src/simulator.ts";

/** A simulator without pacing, closed when the test file ends. */
export async function simulatorForTests(options: SimulatorOptions = {}): Promise<Simulator> {
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0, ...options });
  after(() => simulator.close());
  return simulator;
}

// What comes back is JSON of either vendor; the assertions are the types here.
// oxlint-disable-next-line typescript/no-explicit-any
export type Json = any;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: Json;
}

export async function post(url: string, body: unknown, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(url, {
    method: "POST",
    headers: { authorization: "Bearer sk-test", "content-type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
    ...init,
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: parse(text) };
}

export function chat(baseUrl: string, body: object): Promise<Answer> {
  const model = baseUrl.includes("mistral") ? "mistral-small-latest" : "gpt-4o-mini";
  return post(`${baseUrl}/chat/completions`, {
    model,
    messages: [{ role: "user", content: "What is a gateway?" }],
    ...body,
  });
}

/** The events of a whole stream: parsed, except for the end mark and what is not JSON. */
export function eventsOf(text: string): Json[] {
  return text
    .split("\n\n")
    .filter((event) => event !== "")
    .map((event) => parse(event.replace(/^data: /u, "")) ?? event.replace(/^data: /u, ""));
}

export function contentOf(events: readonly Json[], index = 0): string {
  return events
    .flatMap((event) => event.choices ?? [])
    .filter((choice: Json) => choice.index === index)
    .map((choice: Json) => choice.delta.content ?? "")
    .join("");
}

function parse(text: string): Json {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
