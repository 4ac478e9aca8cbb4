import { signatureCheck } from '../seal/audit-key.ts';
import type { Seal } from '../seal/seal.ts';
import { isRevokedAt, maySeal, type TrustFile, type TrustedSigner } from '../seal/trust.ts';
import type { Findings } from './report.ts';

interface Known {
  readonly entry: TrustedSigner;
  readonly verify: (message: Uint8Array, signature: Uint8Array) => boolean;
}

/** Checks seals against the signers of a trust file; without one, signatures go unchecked. */
export class SignerCheck {
  readonly #known = new Map<string, Known>();
  readonly #trusted: boolean;

  constructor(trust: TrustFile | undefined) {
    this.#trusted = trust !== undefined;
    for (const entry of trust?.signers ?? []) {
      if (!maySeal(entry)) continue;
      const verify = signatureCheck(entry.public_key);
      if (verify !== undefined) this.#known.set(entry.signer, { entry, verify });
    }
  }

  /** Whether a seal is one of a signer that is believed, without naming why not. */
  believes(seal: Seal, digest: Buffer, signature: Buffer): boolean {
    const known = this.#known.get(seal.signer);
    if (known?.verify(digest, signature) !== true) return false;
    return !isRevokedAt(known.entry, seal.time);
  }

  /** Checks a seal whose place is the one that it states. */
  check(seal: Seal, digest: Buffer, signature: Buffer, findings: Findings): void {
    if (!this.#trusted) return;
    const at = { chain: seal.chain, batch: seal.batch };
    const known = this.#known.get(seal.signer);
    if (known === undefined) {
      findings.addOnce('signer_unknown', `the trust file does not know signer ${seal.signer}`, at);
      return;
    }
    if (!known.verify(digest, signature)) {
      findings.add('signature_invalid', `the signature is not one of ${seal.signer}`, at);
    } else if (isRevokedAt(known.entry, seal.time)) {
      findings.add('signer_revoked', `signer ${seal.signer} was revoked at ${known.entry.revoked_at}`, at);
    }
  }
}
