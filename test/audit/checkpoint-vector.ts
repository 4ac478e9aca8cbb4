import {
  type Checkpoint,
  type SignedCheckpoint,
  signCheckpoint,
} from '../../src/audit/checkpoint/checkpoint.ts';
import type { AuditKey } from '../../src/audit/index.ts';
import { VECTOR_CHAIN } from './event-vectors.ts';

const SERIES = '01b00000-0000-7000-8000-0000000000d0';
const FIRST_ID = '01b00000-0000-7000-8000-0000000000d1';
/** The seal of the page. */
const HEAD = {
  chain: VECTOR_CHAIN,
  batch: 1,
  seal: '7be323bfabd7832e0c2a5ee179e87d3323e861557080f725b3ae3cf61ffca8e1',
};

/** The two checkpoints of docs/audit-format.md: one with everything, and one made while the database was away. */
export const checkpointVectors = (key: AuditKey): readonly [SignedCheckpoint, SignedCheckpoint] => {
  const first: Omit<Checkpoint, 'v' | 'alg' | 'signer'> = {
    id: FIRST_ID,
    series: SERIES,
    number: 1,
    prev: null,
    stored: null,
    time: '2026-01-02T03:09:05.678Z',
    own: HEAD,
    heads: [{ chain: '019ab000-0000-7000-8000-00000000000a', batch: 7, seal: 'cd'.repeat(32) }, HEAD],
    omitted: 0,
  };
  const one = signCheckpoint(first, key);
  const two = signCheckpoint(
    {
      ...first,
      id: '01b00000-0000-7000-8000-0000000000d2',
      number: 2,
      prev: one.digest.toString('hex'),
      stored: FIRST_ID,
      time: '2026-01-02T03:14:05.678Z',
      heads: [HEAD],
      omitted: null,
    },
    key,
  );
  return [one, two];
};
