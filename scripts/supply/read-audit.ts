/** What `npm audit --json` said, with those packages apart that run in production. */
export type AuditReading =
  /** The registry was not asked, or did not answer; nothing is known. */
  | { readonly kind: "unknown"; readonly reason: string }
  | {
      readonly kind: "answered";
      readonly inProduction: readonly Advisory[];
      readonly inDevelopment: readonly Advisory[];
    };

export interface Advisory {
  readonly package: string;
  readonly severity: string;
  readonly title: string;
  readonly url: string;
}

interface AuditReport {
  readonly message?: unknown;
  readonly error?: { readonly summary?: unknown; readonly code?: unknown };
  readonly vulnerabilities?: Readonly<Record<string, { readonly via: readonly unknown[] }>>;
}

/** `output` is npm's standard output, `production` the names of the packages that run in production. */
export function readAudit(output: string, production: ReadonlySet<string>): AuditReading {
  let report: AuditReport | null;
  try {
    report = JSON.parse(output) as AuditReport | null;
  } catch {
    return { kind: "unknown", reason: "npm said nothing that can be read" };
  }
  const vulnerabilities = report?.vulnerabilities;
  if (vulnerabilities === undefined) {
    const reason = [report?.message, report?.error?.summary, report?.error?.code].find(
      (text) => typeof text === "string" && text !== "",
    );
    return { kind: "unknown", reason: typeof reason === "string" ? reason.split(" - ")[0]! : "npm gave no report" };
  }
  // What is there only by way of another package names that package; each advisory itself is an object.
  const advisories = Object.entries(vulnerabilities).flatMap(([name, { via }]) =>
    via.flatMap((one): Advisory[] => {
      if (typeof one !== "object" || one === null) return [];
      const { severity, title, url } = one as Partial<Record<string, unknown>>;
      return [{ package: name, severity: String(severity), title: String(title), url: String(url) }];
    }),
  );
  return {
    kind: "answered",
    inProduction: advisories.filter((advisory) => production.has(advisory.package)),
    inDevelopment: advisories.filter((advisory) => !production.has(advisory.package)),
  };
}

/** Such as may not be shipped. */
export const isGrave = ({ severity }: Advisory): boolean => severity === "high" || severity === "critical";
