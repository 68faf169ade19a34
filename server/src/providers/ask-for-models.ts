import { ProviderError } from "./provider.ts";
import type { ConnectedProvider } from "./provider-set.ts";

const LONGEST_BODY_BYTES = 1024 * 1024;

/**
 * Asks for the list of models, which costs nothing and shows whether the provider answers and takes our credentials. Throws
 * ProviderError when there is no list, whatever the reason; the signal's reason when that is what ended it.
 */
export async function askForModels(
  { provider, transport }: ConnectedProvider,
  timeoutMs: number,
  stopping?: AbortSignal,
): Promise<void> {
  const late = AbortSignal.timeout(timeoutMs);
  const signal = stopping === undefined ? late : AbortSignal.any([stopping, late]);
  try {
    const response = await transport.send(provider.probe(), signal);
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of response.body) {
      bytes += chunk.length;
      if (bytes > LONGEST_BODY_BYTES) break;
      chunks.push(chunk);
    }
    if (response.status !== 200) throw provider.readFault(response.status, response.headers, Buffer.concat(chunks));
  } catch (error) {
    if (!late.aborted || stopping?.aborted === true) throw error;
    throw new ProviderError("attempt-timeout", `No list of models came within ${timeoutMs} ms.`, {
      provider: provider.name,
    });
  }
}
