import type { PolicyInputBase } from '../input.ts';
import { Designated, hostName, parseDesignated } from './designated.ts';
import type { ManagedConfig } from './managed-config.ts';

/** Which of the managed settings refused; recorded as `detail` of the reason. */
export type ManagedDetail =
  | 'settings_refused'
  | 'connections_disabled'
  | 'relay_not_listed'
  | 'not_designated'
  | 'bundle_source'
  | 'signing_keys'
  | 'minimum_sequence'
  | 'proof_required';

/** Where the bundle that decides comes from and who may have signed it: what the process opened its policy with. */
export interface PolicyInUse {
  /** Absolute path or address; undefined: not told. */
  readonly source: string | undefined;
  readonly keys: readonly { readonly id: string; readonly algorithm: string; readonly public_key: string }[];
}

const keysText = (keys: PolicyInUse['keys']): string =>
  JSON.stringify(keys.map(({ id, algorithm, public_key }) => [id, algorithm, public_key.trim()]).sort());

/**
 * What the administrator of a machine allows at all, as it holds at one moment; never changed in place. Everything here
 * only narrows: what it does not refuse is still the guard's and the bundle's to decide.
 */
export class ManagedSettings {
  /** No managed.yaml: nothing is restricted. */
  static readonly absent = new ManagedSettings('absent', undefined, undefined);
  /** A managed.yaml that was refused, and none before it that was not: nothing is allowed. */
  static readonly refused = new ManagedSettings('refused', undefined, undefined);

  readonly kind: 'absent' | 'in_force' | 'refused';
  /** Hex SHA-256 of the file's bytes. */
  readonly sha256: string | undefined;
  readonly config: ManagedConfig | undefined;
  /** `managed` of the policy input: one object for as long as these settings hold. */
  readonly input: PolicyInputBase['managed'];
  readonly #relays: ReadonlySet<string> | undefined;
  readonly #designated: Designated | undefined;

  private constructor(
    kind: ManagedSettings['kind'],
    config: ManagedConfig | undefined,
    sha256: string | undefined,
  ) {
    this.kind = kind;
    this.config = config;
    this.sha256 = sha256;
    this.input = {
      ...(sha256 === undefined ? {} : { sha256 }),
      require_proof: config?.require_proof ?? false,
    };
    this.#relays = config?.relays === undefined ? undefined : new Set(config.relays);
    this.#designated =
      config?.designated === undefined ? undefined : new Designated(config.designated.map(parseDesignated));
  }

  static inForce(config: ManagedConfig, sha256: string): ManagedSettings {
    return new ManagedSettings('in_force', config, sha256);
  }

  /** Why nothing at all may go on; undefined when something may. */
  barsAll(): ManagedDetail | undefined {
    if (this.kind === 'refused') return 'settings_refused';
    return this.config?.connections === 'disabled' ? 'connections_disabled' : undefined;
  }

  /** Why this relay node may not be dialled, nor carry anything. */
  barsRelay(host: string): ManagedDetail | undefined {
    const all = this.barsAll();
    if (all !== undefined) return all;
    return this.#relays === undefined || this.#relays.has(hostName(host)) ? undefined : 'relay_not_listed';
  }

  /** Why the policy as it was opened may not decide. */
  barsPolicy({ source, keys }: PolicyInUse): ManagedDetail | undefined {
    const { bundle, signing_keys: required } = this.config ?? {};
    if (bundle !== undefined && source !== (bundle.file ?? bundle.url)) return 'bundle_source';
    return required === undefined || keysText(required) === keysText(keys) ? undefined : 'signing_keys';
  }

  /** Why a bundle of this sequence may not decide. */
  barsSequence(sequence: number): ManagedDetail | undefined {
    return sequence < (this.config?.minimum_sequence ?? 0) ? 'minimum_sequence' : undefined;
  }

  /** Why an address that `host` resolved to may not be dialled at that port, whatever a bundle says. */
  barsTarget(host: string, port: number, address: string): ManagedDetail | undefined {
    const all = this.barsAll();
    if (all !== undefined) return all;
    return this.#designated?.has(host, port, address) === false ? 'not_designated' : undefined;
  }

  /** Why these keys do not do. The shipped library says the same; a bundle may have another library. */
  barsKeys({ listener, key }: Pick<PolicyInputBase, 'listener' | 'key'>): ManagedDetail | undefined {
    if (!this.input.require_proof) return undefined;
    const isProved = [listener, ...(key === undefined ? [] : [key])].every(
      ({ proved_by }) => proved_by === 'agent',
    );
    return isProved ? undefined : 'proof_required';
  }

  /** The parts that tell an operator what holds, without the keys. */
  summary(): Readonly<Record<string, unknown>> | undefined {
    const { config } = this;
    if (config === undefined) return undefined;
    return {
      sha256: this.sha256,
      connections: config.connections,
      require_proof: config.require_proof,
      relays: config.relays?.length ?? null,
      designated: config.designated?.length ?? null,
      bundle: config.bundle?.file ?? config.bundle?.url ?? null,
      signing_keys: config.signing_keys?.map(({ id }) => id) ?? null,
      minimum_sequence: config.minimum_sequence ?? null,
      audit_mode: config.audit_mode ?? null,
    };
  }
}
