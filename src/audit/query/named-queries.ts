import type { NamedQuery } from './named-query.ts';
import { ACCESS_QUESTIONS } from './questions/access.ts';
import { CREDENTIAL_QUESTIONS } from './questions/credentials.ts';
import { EVIDENCE_QUESTIONS } from './questions/evidence.ts';
import { POLICY_QUESTIONS } from './questions/policy.ts';

/** The questions that `audit query NAME` answers; each reads views only. docs/audit-queries.md explains every one. */
export const NAMED_QUERIES: readonly NamedQuery[] = [
  ...ACCESS_QUESTIONS,
  ...CREDENTIAL_QUESTIONS,
  ...POLICY_QUESTIONS,
  ...EVIDENCE_QUESTIONS,
];

/** The named query, if there is one. */
export const findNamedQuery = (name: string): NamedQuery | undefined =>
  NAMED_QUERIES.find((query) => query.name === name);
