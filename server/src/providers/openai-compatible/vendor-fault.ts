import { ProviderError, type ProviderFault, type ProviderFaultInfo, type ResponseHeaders } from "../provider.ts";
import { readRetryAfter } from "../retry-after.ts";

export interface VendorFault {
  readonly message: string | undefined;
  readonly type: string | undefined;
  readonly code: string | undefined;
  readonly param: string | undefined;
  /** What the caller wrote was found objectionable, which some say with the status of refused credentials. */
  readonly moderated?: boolean;
}

/** Types and codes that mean an empty account or a spent limit, where the status alone would mean "too fast". */
const QUOTA =
  /insufficient_quota|insufficient_balance|insufficient_credits|credit_balance|spend_limit|billing|payment_required/i;

/** Status and code -> what it means for the request. One table for every vendor whose statuses mean what HTTP says. */
export function describeFault(
  provider: string,
  status: number,
  headers: ResponseHeaders,
  vendor: VendorFault,
): ProviderError {
  const info = faultInfo(provider, status, headers, vendor);
  return new ProviderError(faultOf(status, vendor, info), `The provider answered with status ${status}.`, info);
}

/**
 * The same of an error that came with status 200 in an answer's place. Where its code is no refusal that HTTP knows, the
 * provider may have worked and may bill it, so it counts as an answer that is of no use.
 */
export function describeFaultInside(
  provider: string,
  headers: ResponseHeaders,
  vendor: VendorFault,
  wireUsage: unknown,
): ProviderError {
  const code = /^4\d\d$/.test(vendor.code ?? "") ? Number(vendor.code) : isCallersMistake(vendor) ? 400 : undefined;
  const info = { ...faultInfo(provider, code ?? 200, headers, vendor), wireUsage };
  const fault = code === undefined ? (isQuota(vendor) ? "quota" : "unusable") : faultOf(code, vendor, info);
  return new ProviderError(fault, "The provider answered 200 with an error in the answer's place.", info);
}

function faultInfo(provider: string, status: number, headers: ResponseHeaders, vendor: VendorFault): ProviderFaultInfo {
  const retryAfterMs = readRetryAfter(headers);
  return {
    provider,
    status,
    ...(vendor.message === undefined ? {} : { vendorMessage: vendor.message }),
    ...(vendor.type === undefined ? {} : { vendorType: vendor.type }),
    ...(vendor.code === undefined ? {} : { vendorCode: vendor.code }),
    ...(vendor.param === undefined ? {} : { param: vendor.param }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
}

/** Told inside an answer, where no status says so. */
const isCallersMistake = ({ type, code }: VendorFault): boolean =>
  /context_length_exceeded|content_policy|content_filter|invalid_request/i.test(`${type ?? ""} ${code ?? ""}`);

const isQuota = ({ type, code }: VendorFault): boolean => QUOTA.test(`${type ?? ""} ${code ?? ""}`);

const isVendors = ({ message, type, code }: VendorFault): boolean =>
  message !== undefined || type !== undefined || code !== undefined;

/** Who has named it was perhaps not the caller, but the router or a policy; or the vendor has retired it since. */
const MODEL_MISSING = /model_not_found|invalid_model|^not_?found_?error/i;

const isModelMissing = (status: number, { type, code }: VendorFault): boolean =>
  (status === 400 || status === 404) && MODEL_MISSING.test(`${type ?? ""} ${code ?? ""}`);

function faultOf(status: number, vendor: VendorFault, { retryAfterMs }: ProviderFaultInfo): ProviderFault {
  if (isModelMissing(status, vendor)) return "model-missing";
  if (status === 403 && vendor.moderated === true) return "refused";
  if (status === 401 || status === 403) return "credentials";
  // Resellers that hold a request's worst case against a balance say when it is free again; an empty account does not.
  if (status === 402) return retryAfterMs === undefined ? "quota" : "rate-limited";
  if (status === 429) return isQuota(vendor) ? "quota" : "rate-limited";
  // A conflict in the vendor's own house, or too early for it: nothing that the caller wrote.
  if (status === 409 || status === 425) return "overloaded";
  if (status === 408 || status >= 500) return "overloaded";
  // Without a word of the vendor's it is the address that is wrong, or what stands before the vendor: the operator's to mend.
  if ((status === 404 || status === 405) && !isVendors(vendor)) return "unusable";
  if (status >= 400) return "refused";
  return "unusable";
}
