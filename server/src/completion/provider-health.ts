/** How a provider's model has fared lately, for whoever decides whom to ask. */
export interface TargetStanding {
  /** Of its circuit breaker. */
  readonly state: "closed" | "open" | "half-open";
  /** Until it may be asked; 0: now. */
  readonly availableInMs: number;
  /** Share of recent requests that failed by its fault; undefined: too few to say. */
  readonly errorRate: number | undefined;
  readonly firstTokenP50Ms: number | undefined;
  readonly firstTokenP95Ms: number | undefined;
}
