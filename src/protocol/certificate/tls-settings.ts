import { z } from 'zod';
import { REVOCATION_MODES } from './server-revocation.ts';

/** `tls` of agent.yaml and gateway.yaml: how the relay's certificate is judged beyond its chain, name and dates. */
export const tlsTrustSchema = z
  .strictObject({
    /** Whether its authority's CRLs are asked: `off`; `soft`, and none is a warning; `hard`, and none is a refusal. */
    revocation: z.enum(REVOCATION_MODES).default('soft'),
  })
  .default({ revocation: 'soft' });
