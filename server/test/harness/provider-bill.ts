import type { Simulator } from "@brikk/simulator";

type ServedEntry = ReturnType<Simulator["served"]["list"]>[number];
type ServedUsage = ServedEntry["usage"];

/** pico-USD per token, from the vendors' pages: fresh input, cached input, output. */
const RATES: Readonly<Record<string, readonly [bigint, bigint, bigint]>> = {
  "gpt-4o-mini": [150_000n, 75_000n, 600_000n],
  "mistral-small-latest": [150_000n, 15_000n, 600_000n],
};

/** What a vendor's own count comes to in nano-USD, reckoned apart from the gateway's code: exact, rounded up once per request. */
export function billOf(
  model: string,
  usage: Pick<ServedUsage, "promptTokens" | "cachedTokens" | "completionTokens">,
): bigint {
  const rates = RATES[model];
  if (rates === undefined) throw new Error(`The test knows no price of ${model}.`);
  const [fresh, cached, output] = rates;
  const pico =
    BigInt(usage.promptTokens - usage.cachedTokens) * fresh +
    BigInt(usage.cachedTokens) * cached +
    BigInt(usage.completionTokens) * output;
  return (pico + 999n) / 1_000n;
}

/** What both vendors bill from now on, however many requests that are and whatever becomes of the gateways. */
export interface ProviderBill {
  /** nano-USD */
  readonly total: bigint;
  readonly requests: number;
}

export function followBill({ served }: Simulator): ProviderBill {
  const bill = { total: 0n, requests: 0 };
  served.follow(({ model, usage }) => {
    bill.total += billOf(model, usage);
    bill.requests += 1;
  });
  return bill;
}
