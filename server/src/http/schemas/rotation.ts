import { z } from "zod";
import { LONGEST_GRACE_MS } from "../../access/rotate-key.ts";

export const rotationRequest = z
  .strictObject({
    grace_period_seconds: z
      .int()
      .min(0)
      .max(LONGEST_GRACE_MS / 1_000)
      .default(0)
      .describe("How long the old secret is still accepted; 7 days at most. With 0 it ends at once."),
  })
  .meta({ id: "RotationRequest", example: { grace_period_seconds: 3_600 } });

export const rotationAnswer = z
  .object({
    key_id: z.string().describe("As before: caps, limits, usage and budgets go on."),
    old_key_prefix: z.string(),
    new_key: z.string().describe("Shown this once."),
    rotated_at: z.string(),
    old_key_valid_until: z.string().describe("The first moment at which the old secret is no longer accepted (UTC)."),
  })
  .meta({
    id: "Rotation",
    example: {
      key_id: "bk_Example00001",
      old_key_prefix: "brikk_aB3dE5",
      new_key: "brikk_...",
      rotated_at: "2026-11-23T09:00:00.000Z",
      old_key_valid_until: "2026-11-23T10:00:00.000Z",
    },
  });
