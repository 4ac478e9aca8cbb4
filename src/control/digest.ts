import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';

/** SHA-256, in hex, of the RFC 8785 form of what the management API shows of a thing: never of a secret. */
export const digestOf = (view: object): string =>
  createHash('sha256')
    .update(canonicalize(view) ?? '', 'utf8')
    .digest('hex');
