import type { AuditLog, Subject } from '../audit/index.ts';
import type { VerifiedCredential } from '../control/index.ts';
import type { Clock, CloseReason } from '../runtime/index.ts';
import type { DataLink } from './data-link.ts';
import type { Login } from './login.ts';

export interface RelayEvidenceOptions {
  readonly audit: Pick<AuditLog, 'note'>;
  readonly namespace: string;
  readonly node: string;
  readonly clock: Clock;
}

/** What the relay puts on record of logins and links. */
export class RelayEvidence {
  readonly #options: RelayEvidenceOptions;

  constructor(options: RelayEvidenceOptions) {
    this.#options = options;
  }

  loginOpened(login: Login, verified: VerifiedCredential): void {
    this.#login('login.opened', login, verified);
  }

  loginRenewed(login: Login, verified: VerifiedCredential): void {
    this.#login('login.renewed', login, verified);
  }

  loginClosed(login: Login, reason: string): void {
    const { audit, namespace, node, clock } = this.#options;
    audit.note({
      type: 'login.closed',
      subject: { namespace, relay: node, [login.role]: login.name, login_id: login.id },
      data: {
        role: login.role,
        name: login.name,
        instance: login.instance,
        node,
        reason,
        duration_ms: Math.max(0, clock.nowMs() - login.openedMs),
      },
    });
  }

  linkOpened(link: DataLink): void {
    const { audit, node } = this.#options;
    audit.note({
      type: 'link.opened',
      subject: this.#subjectOf(link),
      data: { side: 'relay', carrier: link.carrier, node },
    });
  }

  /** `link.closed`, or `link.refused` for a rendezvous that never was joined. */
  linkClosed(link: DataLink, reason: CloseReason, wasJoined: boolean): void {
    const { audit, node, clock } = this.#options;
    audit.note({
      type: wasJoined ? 'link.closed' : 'link.refused',
      subject: this.#subjectOf(link),
      data: {
        side: 'relay',
        carrier: link.carrier,
        node,
        reason,
        bytes_up: link.bytesUp,
        bytes_down: link.bytesDown,
        duration_ms: Math.max(0, clock.monotonicMs() - link.sinceMs),
      },
    });
  }

  #login(type: 'login.opened' | 'login.renewed', login: Login, verified: VerifiedCredential): void {
    const { audit, namespace, node } = this.#options;
    audit.note({
      type,
      subject: {
        namespace,
        relay: node,
        [login.role]: login.name,
        login_id: login.id,
        connection: verified.connection,
        connection_id: verified.connection_id,
        principal: verified.principal,
        auth_rule: verified.auth_rule,
        key_id: verified.key_id,
        key_slot: verified.slot,
        key_kind: verified.kind,
        proved_by: 'relay',
        source_addr: login.address,
      },
      data: {
        role: login.role,
        name: login.name,
        instance: login.instance,
        node,
        build: login.build,
        expires_at: new Date(verified.expires_at_ms).toISOString(),
      },
    });
  }

  #subjectOf(link: DataLink): Subject {
    const { sender, listener, gateway, agent } = link;
    return {
      namespace: this.#options.namespace,
      relay: this.#options.node,
      gateway: gateway.login.name,
      agent: agent.login.name,
      connection: link.connection,
      connection_id: link.connectionId,
      principal: sender.principal,
      auth_rule: sender.auth_rule,
      key_id: sender.id,
      key_slot: sender.slot,
      key_kind: sender.kind,
      proved_by: sender.proved_by,
      listener_principal: listener.principal,
      listener_key_id: listener.id,
      link_id: link.id,
      carrier: link.carrier,
      source_addr: gateway.login.address,
    };
  }
}
