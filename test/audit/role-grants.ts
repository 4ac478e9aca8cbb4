/** What each role may do, and nothing else: relations by privilege, functions by name. */
export interface Grants {
  readonly select?: readonly string[];
  readonly insert?: readonly string[];
  readonly update?: readonly string[];
  readonly delete?: readonly string[];
  readonly execute?: readonly string[];
}

const VIEWS = [
  ...['active_streams', 'admin_changes', 'decisions', 'denies', 'first_seen', 'health', 'key_usage'],
  ...['policy_health', 'policy_rollout', 'reconciliation', 'retained', 'revocations', 'rules', 'streams'],
  ...['timeline', 'unused_grants'],
].map((name) => `audit.${name}`);
const READING = [
  ...['decision_events', 'decision_pages', 'decisions_between', 'details', 'instant', 'recorded_between'],
].map((name) => `audit.${name}`);
const audit = (...names: string[]): string[] => names.map((name) => `audit.${name}`);
const control = (...names: string[]): string[] => names.map((name) => `control.${name}`);

const RELAY_WRITES = control('agent_login', 'auth_rule', 'connection', 'key', 'key_usage', 'node', 'token');
const RELAY_APPENDS = [...RELAY_WRITES, ...control('namespace', 'outbox', 'revocation', 'revocation_ack')];

export const GRANTS: Readonly<Record<string, Grants>> = {
  audit_ingest: {
    execute: audit(
      ...[
        'append',
        'checkpoint_heads',
        'importing_site',
        'next_exports',
        'next_retention',
        'own_chains',
        'recent_heads',
      ],
      ...['store_bundle', 'store_checkpoint', 'store_grants', 'stored_content'],
    ),
  },
  audit_import: { execute: audit('append', 'importing_site', 'own_chains') },
  audit_read: { select: [...VIEWS, 'audit.bundle_rule'], execute: READING },
  audit_verify: {
    select: [
      ...VIEWS,
      ...audit('bundle', 'bundle_grants', 'bundle_rule', 'chain', 'checkpoint', 'event', 'event_type'),
      ...audit(
        'retention',
        'export_claim',
        'export_notice',
        'retention_claim',
        'retention_request',
        'seal',
        'seal_leaves',
        'signer',
        'site',
        'upkeep',
      ),
    ],
    execute: [...READING, ...audit('export_recorded', 'notice_export')],
  },
  audit_retention: {
    select: audit('retention', 'retention_claim', 'retention_request', 'upkeep'),
    execute: audit(
      'detach_retained',
      'partitions_ahead',
      'remove_checkpoints',
      'removable',
      'request_retention',
      'retention_recorded',
    ),
  },
  control_relay: {
    select: RELAY_APPENDS,
    insert: RELAY_APPENDS,
    // Of the outbox one column only: see the test.
    update: [...RELAY_WRITES, 'control.revocation_ack'],
    delete: [...RELAY_WRITES, ...control('outbox', 'revocation_ack')],
    // Triggers: whoever calls them directly is refused.
    execute: control('guard_outbox', 'refuse_change'),
  },
};
