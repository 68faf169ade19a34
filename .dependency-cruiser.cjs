// The layers of server/src, lowest first. A module may import from its own layer and from those below it.
const layers = [
  ["lib"],
  ["errors", "config"],
  ["storage", "resilience", "telemetry"],
  ["access", "ledger", "audit", "providers"],
  ["credentials"],
  ["completion"],
  ["conversations"],
  ["http"],
  ["app", "gateway", "banner"],
  ["main", "cli"],
];

/** A folder or a file of that name directly under server/src. */
const within = (names) => `^server/src/(${names.join("|")})(/|\\.ts$)`;

const layerRules = layers.slice(0, -1).map((layer, index) => ({
  name: `${layer.join("-")}-import-nothing-above`,
  severity: "error",
  from: { path: within(layer) },
  to: { path: within(layers.slice(index + 1).flat()) },
}));

module.exports = {
  forbidden: [
    ...layerRules,
    {
      name: "every-file-has-a-layer",
      comment: "A new folder is named in the list of layers, or no rule would hold it.",
      severity: "error",
      from: {},
      to: { path: "^server/src/", pathNot: within(layers.flat()) },
    },
    {
      name: "providers-know-no-money-and-no-callers",
      severity: "error",
      from: { path: "^server/src/providers/" },
      to: { path: "^server/src/(access|ledger|audit)/" },
    },
    {
      name: "providers-know-not-each-other",
      comment: "Except that an adapter may build on the one for OpenAI's wire form.",
      severity: "error",
      from: { path: "^server/src/providers/([^/]+)/" },
      to: {
        path: "^server/src/providers/[^/]+/",
        pathNot: ["^server/src/providers/$1/", "^server/src/providers/openai-compatible/"],
      },
    },
    {
      name: "no-cycles",
      comment: "Types may point back: they are gone when the code runs.",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "simulator-stands-alone",
      comment: "It plays the vendors; a gateway that tests itself with its own code would agree with its own mistakes.",
      severity: "error",
      from: { path: "^simulator/" },
      to: { path: "^server/" },
    },
    {
      name: "simulator-only-by-its-entries",
      severity: "error",
      from: { path: "^server/" },
      to: { path: "^simulator/", pathNot: "^simulator/src/(simulator|faults)\\.ts$" },
    },
    {
      name: "simulator-only-from-main-the-fire-drill-and-tests",
      severity: "error",
      from: { path: "^server/src/", pathNot: "^server/src/(main|http/fire-drill|http/routes/admin-fire-drill)\\.ts$" },
      to: { path: "^simulator/" },
    },
    {
      name: "sdks-stand-alone",
      comment: "They are copied into other people's programs.",
      severity: "error",
      from: { path: "^sdks/" },
      to: { pathNot: "^sdks/" },
    },
    {
      name: "source-knows-no-sdks",
      comment:
        "A gateway that reads what its own helper writes would agree with its mistakes; tests use them as callers do.",
      severity: "error",
      from: { path: "^(server|simulator)/src/" },
      to: { path: "^sdks/" },
    },
    {
      name: "source-knows-no-tests",
      severity: "error",
      from: { path: "^(server|simulator)/src/" },
      to: { path: "^((server|simulator)/test|scripts|bench)/" },
    },
    {
      name: "source-needs-no-dev-dependency",
      severity: "error",
      from: { path: "^(server|simulator)/src/" },
      to: { dependencyTypes: ["npm-dev"], dependencyTypesNot: ["type-only"], pathNot: "node_modules/@types/" },
    },
    { name: "resolvable", severity: "error", from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["node", "import", "default", "types"],
      extensions: [".ts", ".js", ".mjs", ".json"],
    },
  },
};
