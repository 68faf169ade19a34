import { z } from "zod";

/** A BCP 47 language tag, as far as a pattern can tell. */
export const languageTag = z
  .string()
  .regex(/^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$/, "must be a BCP 47 language tag such as en or pt-BR")
  .max(35);
