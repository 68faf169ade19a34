import type { Config, ProviderConfig } from "../config.ts";
import { askForModels } from "./ask-for-models.ts";
import { ProviderError, type ProviderFault } from "./provider.ts";
import { connectProvider } from "./provider-set.ts";

/** What a provider says of a credential. */
export type CredentialCheck =
  /** `inconclusive`: the server has no list of models, so it was never asked who we are. */
  | { readonly kind: "accepted" | "inconclusive" }
  | { readonly kind: "refused"; readonly status: number | undefined }
  /** It could not be asked, or answered something else. */
  | { readonly kind: "failed"; readonly fault: ProviderFault; readonly status: number | undefined };

/** Longer than a healthy vendor takes, shorter than a person waits. */
const CHECK_MS = 10_000;

/** Asks the provider for its models with the credential in `provider`, over a connection of its own. Never throws for what a provider does. */
export async function checkCredential(
  provider: ProviderConfig,
  config: Pick<Config, "allowPrivateAddresses">,
): Promise<CredentialCheck> {
  const connected = connectProvider(provider, config);
  try {
    await askForModels(connected, Math.min(CHECK_MS, provider.timeouts.attemptMs));
    return { kind: "accepted" };
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    return meaningOf(error);
  } finally {
    await connected.transport.close();
  }
}

function meaningOf({ fault, info: { status } }: ProviderError): CredentialCheck {
  // A list that is not there asks for nobody's credentials.
  if (status === 404 || status === 405) return { kind: "inconclusive" };
  switch (fault) {
    case "credentials":
      return { kind: "refused", status };
    // Who counts our requests or our money knows who we are.
    case "rate-limited":
    case "quota":
      return { kind: "accepted" };
    default:
      return { kind: "failed", fault, status };
  }
}
