import { z } from 'zod';

const grantSchema = z.looseObject({
  id: z.string(),
  owner: z.string().catch(''),
  expires: z.string().catch(''),
});
const dataSchema = z.object({
  sallyport: z
    .object({ grants: z.record(z.string(), z.record(z.string(), z.array(grantSchema))).optional() })
    .optional(),
});

/** A grant of a bundle's own data, with whom it is for. */
export interface BundleGrant {
  readonly connection: string;
  readonly principal: string;
  readonly grant: z.infer<typeof grantSchema>;
}

/** Every grant in a bundle's `data.json`; none where the data is of another form. */
export const grantsOf = (dataText: string): BundleGrant[] => {
  const parsed = dataSchema.safeParse(JSON.parse(dataText));
  return Object.entries(parsed.data?.sallyport?.grants ?? {}).flatMap(([connection, principals]) =>
    Object.entries(principals).flatMap(([principal, grants]) =>
      grants.map((grant) => ({ connection, principal, grant })),
    ),
  );
};
