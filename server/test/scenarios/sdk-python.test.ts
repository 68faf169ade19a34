import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { nanoUsd } from "../../src/lib/money.ts";
import { startGateway } from "../harness/gateway-under-test.ts";

/** The first Python that has the `openai` package; BRIKK_PYTHON names one. */
const python = [process.env["BRIKK_PYTHON"], "python3"].find(
  (path) =>
    path !== undefined && path !== "" && spawnSync(path, ["-c", "import openai"], { stdio: "ignore" }).status === 0,
);
const mustRun = process.env["BRIKK_NO_SKIP"] === "1";
const absent = "no Python with the openai package; set BRIKK_PYTHON to one";
if (python === undefined && !mustRun) process.stderr.write(`SKIPPED sdk-python: ${absent}\n`);

type Seen = Record<string, Record<string, unknown>>;

function runPython(path: string, environment: Record<string, string>): Promise<Seen> {
  const child = spawn(path, [fileURLToPath(new URL("python/openai_client.py", import.meta.url))], {
    env: { PATH: process.env["PATH"], PYTHONDONTWRITEBYTECODE: "1", ...environment },
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  return new Promise((resolve, reject) => {
    child
      .on("error", reject)
      .on("close", (code) =>
        code === 0 ? resolve(JSON.parse(stdout) as Seen) : reject(new Error(`Python ended with ${code}:\n${stderr}`)),
      );
  });
}

test(
  "Python's openai package, unmodified: plain, streamed, tools, embeddings, models and its own typed errors",
  { skip: python === undefined && !mustRun ? absent : false },
  async () => {
    assert.ok(python !== undefined, absent);
    // Faults are to be seen, so nobody is asked twice.
    const brikk = await startGateway({ environment: { PROVIDER_MAX_RETRIES: "0" } });
    try {
      const poor = await brikk.createKey({ softCap: nanoUsd(1n), hardCap: nanoUsd(1n) });
      const seen = await runPython(python, {
        BRIKK_URL: brikk.url,
        SIMULATOR_URL: brikk.simulator.url,
        BRIKK_KEY: (await brikk.createKey()).secret,
        BRIKK_LIMITED_KEY: (await brikk.createKey({ rateLimitPerMin: 1 })).secret,
        BRIKK_POOR_KEY: poor.secret,
      });
      const vendor = new OpenAI({ baseURL: brikk.simulator.openaiBaseUrl, apiKey: "any" });
      const expected = await vendor.chat.completions.create({
        model: "gpt-4o-mini",
        messages: [{ role: "user", content: "Why is the sky blue, and the sea too?" }],
        seed: 7,
      });
      const text = expected.choices[0]!.message.content!;
      const tokens = expected.usage!.completion_tokens;

      assert.deepEqual(seen["plain"], { text, finish: "stop", completion_tokens: tokens });
      const { cost_usd: costUsd, ...streamed } = seen["streamed"]!;
      assert.deepEqual(streamed, { text, empty: 1, completion_tokens: tokens });
      assert.ok(Number(costUsd) > 0);
      assert.deepEqual(seen["streamed_without_usage"], { empty: 0 });
      assert.equal(seen["tools"]?.["name"], "get_weather");
      assert.equal(typeof (seen["tools"]?.["arguments"] as { city?: unknown } | undefined)?.city, "string");
      assert.equal(seen["tools"]?.["finish"], "stop");
      assert.deepEqual({ ...seen["embeddings"], first: 0 }, { count: 2, length: 1_536, first: 0 });
      assert.equal(typeof seen["embeddings"]?.["first"], "number");
      assert.deepEqual(seen["models"], { owned_by: "openai", context_length: 128_000, input_price: 0.15 });

      const cut = seen["cut_stream"]!;
      assert.equal(
        (cut["error"] as { code: string }).code,
        "provider_error",
        "a stream that breaks off raises an APIError",
      );
      assert.equal(cut["finish"], null);
      assert.ok(cut["text"] !== "" && text.startsWith(String(cut["text"])) && String(cut["text"]).length < text.length);

      const errors = seen["errors"] as unknown as Record<
        string,
        { class: string; status: number; code: string; retry_after: string | null }
      >;
      const typed = Object.fromEntries(
        Object.entries(errors).map(([status, error]) => [status, [error.class, error.status, error.code]]),
      );
      assert.deepEqual(typed, {
        400: ["BadRequestError", 400, "integer_above_max_value"],
        401: ["AuthenticationError", 401, "invalid_api_key"],
        402: ["APIStatusError", 402, "hard_cap_exceeded"],
        404: ["NotFoundError", 404, "model_not_found"],
        429: ["RateLimitError", 429, "rate_limit_exceeded"],
        502: ["InternalServerError", 502, "provider_error"],
      });
      assert.ok(Number(errors["429"]?.retry_after) >= 1);
    } finally {
      await brikk.close();
    }
  },
);
