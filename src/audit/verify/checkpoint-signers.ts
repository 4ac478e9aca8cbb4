import type { SignedCheckpoint } from '../checkpoint/checkpoint.ts';
import { signatureCheck } from '../seal/audit-key.ts';
import { maySeal, type TrustedSigner, type TrustFile } from '../seal/trust.ts';
import type { Findings } from './report.ts';

interface Known {
  readonly entry: TrustedSigner;
  readonly verify: ReturnType<typeof signatureCheck>;
}

/** Which checkpoints are believed: those of signers of a trust file that may seal; without one, all. */
export class CheckpointSigners {
  readonly #known: ReadonlyMap<string, Known> | undefined;
  readonly #findings: Findings;
  readonly #reported = new Set<string>();

  constructor(trust: TrustFile | undefined, findings: Findings) {
    this.#known =
      trust &&
      new Map(
        trust.signers.map((entry) => [entry.signer, { entry, verify: signatureCheck(entry.public_key) }]),
      );
    this.#findings = findings;
  }

  /** Whether it is believed; names why not. */
  believes({ checkpoint, digest, signature }: SignedCheckpoint, name: string): boolean {
    if (this.#known === undefined) return true;
    const { signer, time } = checkpoint;
    const known = this.#known.get(signer);
    if (known === undefined) return this.#refuse(signer, `${name}: the trust file does not know ${signer}`);
    const { entry, verify } = known;
    if (!maySeal(entry)) {
      return this.#refuse(signer, `${name}: ${signer} is vouched for as ${entry.kind}, which signs none`);
    }
    if (verify?.(digest, signature) !== true) {
      this.#findings.add('checkpoint_altered', `${name}: the signature is not one of ${signer}`);
      return false;
    }
    const { revoked_at: revokedAt } = entry;
    if (revokedAt !== null && !(Date.parse(time) < Date.parse(revokedAt))) {
      return this.#refuse(signer, `${name}, of ${time}: ${signer} was revoked at ${revokedAt}`);
    }
    return true;
  }

  #refuse(signer: string, message: string): false {
    if (!this.#reported.has(signer)) this.#findings.add('checkpoint_signer', message);
    this.#reported.add(signer);
    return false;
  }
}
