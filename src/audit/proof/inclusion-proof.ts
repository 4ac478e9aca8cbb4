import { z } from 'zod';
import { auditError } from '../errors.ts';
import { leafHash } from '../seal/merkle.ts';
import { readSeal, sealDigest } from '../seal/seal.ts';
import type { TrustFile } from '../seal/trust.ts';
import { type Finding, Findings } from '../verify/report.ts';
import { SignerCheck } from '../verify/signer-check.ts';
import { rootOfPath } from './merkle-path.ts';

/** A tree over 2^53 leaves is no higher. */
const MAX_PATH = 53;

/** Text that has bytes: a lone surrogate would become another character. */
const text = z.string().refine((value) => value.isWellFormed());

const proofSchema = z.strictObject({
  v: z.literal(1),
  /** Canonical bytes of the event, as text. */
  event: text,
  /** Its place in its chain; leaf `seq - first` of the batch. */
  seq: z.int().positive(),
  /** Siblings from the leaf up to the root (RFC 6962 §2.1.1), hex. */
  path: z.array(z.string().regex(/^[0-9a-f]{64}$/)).max(MAX_PATH),
  /** Canonical bytes of the seal, as text. */
  seal: text,
  /** The seal's, hex. */
  signature: z.string().regex(/^[0-9a-f]{128}$/),
});

/** That an event is what its writer signed, at its place, in one file that needs no database. */
export type InclusionProof = Readonly<z.output<typeof proofSchema>>;

export interface ProofReport {
  /** No finding. */
  readonly ok: boolean;
  readonly chain_id: string | null;
  readonly batch_no: number | null;
  readonly seq: number;
  readonly signer: string | null;
  /** When the batch was sealed, by the writer's clock. */
  readonly sealed_at: string | null;
  readonly findings: readonly Finding[];
  /** What the proof is of, as it stands in the proof. */
  readonly event: string;
}

/** @throws AppError ERR_AUDIT_PROOF_INVALID when the text is no proof of version 1. */
export const readProof = (json: string, file: string): InclusionProof => {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw auditError('ERR_AUDIT_PROOF_INVALID', `${file} is no JSON`, { cause });
  }
  const proof = proofSchema.safeParse(value).data;
  if (proof === undefined) throw auditError('ERR_AUDIT_PROOF_INVALID', `${file} is no proof of version 1`);
  return proof;
};

/** Checks a proof against the signers of a trust file; without one it is never ok. */
export const checkProof = (proof: InclusionProof, trust: TrustFile | undefined): ProofReport => {
  const findings = new Findings();
  const seal = readSeal(proof.seal);
  if (trust === undefined)
    findings.add('no_anchor', 'no trust file was given: anybody can make such a proof');
  if (seal === undefined) findings.add('seal_altered', 'the canonical bytes are no seal', { seq: proof.seq });
  else {
    const at = { chain: seal.chain, batch: seal.batch };
    new SignerCheck(trust).check(seal, sealDigest(proof.seal), Buffer.from(proof.signature, 'hex'), findings);
    if (seal.n !== seal.last - seal.first + 1) {
      findings.add('seal_altered', `${seal.n} events do not fill the range`, at);
    } else if (proof.seq < seal.first || proof.seq > seal.last) {
      const message = `the seal covers events ${seal.first} to ${seal.last}`;
      findings.add('event_altered', message, { ...at, seq: proof.seq });
    } else {
      const path = proof.path.map((hash) => Buffer.from(hash, 'hex'));
      const root = rootOfPath(leafHash(Buffer.from(proof.event)), proof.seq - seal.first, seal.n, path);
      if (root?.toString('hex') !== seal.root) {
        const message = 'event and path do not lead to the root that was sealed';
        findings.add('event_altered', message, { ...at, seq: proof.seq });
      }
    }
  }
  return {
    ok: findings.list.length === 0,
    chain_id: seal?.chain ?? null,
    batch_no: seal?.batch ?? null,
    seq: proof.seq,
    signer: seal?.signer ?? null,
    sealed_at: seal?.time ?? null,
    findings: findings.list,
    event: proof.event,
  };
};
