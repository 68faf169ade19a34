export const BASE_ADDRESS_FORM = "an http:// or https:// address without credentials, query and fragment";

/** Credentials in an address would not be sent and would reach logs, and a query would not be sent either. */
export function isBaseAddress(text: string): boolean {
  try {
    const { protocol, username, password, search, hash } = new URL(text);
    return (
      (protocol === "http:" || protocol === "https:") &&
      username === "" &&
      password === "" &&
      search === "" &&
      hash === "" &&
      !/[?#]/.test(text)
    );
  } catch {
    return false;
  }
}
