import { z } from 'zod';
import { messageOf } from '../../runtime/index.ts';
import { SIGNATURE_ALGORITHMS, verificationKey } from './signature.ts';

/** Characters of a key's id. */
export const MAX_KEY_ID = 128;

/** A public key whose signatures of bundles count, as a configuration names it; PEM that fits its algorithm. */
export const bundleKeySchema = z
  .strictObject({
    id: z.string().min(1).max(MAX_KEY_ID),
    algorithm: z.enum(SIGNATURE_ALGORITHMS),
    public_key: z.string().min(1),
  })
  .superRefine(({ id, algorithm, public_key }, context) => {
    try {
      verificationKey(id, algorithm, public_key);
    } catch (error) {
      context.addIssue({ code: 'custom', path: ['public_key'], message: messageOf(error) });
    }
  });
