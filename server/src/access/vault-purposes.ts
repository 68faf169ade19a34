/** What each stored secret is sealed for (see vault.ts): whoever seals one and whoever opens it must name the same. */
export const signingSecretPurpose = (keyId: string): string => `signing secret of ${keyId}`;
export const providerCredentialPurpose = (provider: string): string => `credential of provider ${provider}`;
export const idempotentAnswerPurpose = (scope: string, keyHash: string): string =>
  `answer to ${scope} under the idempotency key ${keyHash}`;
