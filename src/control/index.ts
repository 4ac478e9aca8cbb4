export type { ManagementServer, ManagementServerOptions } from './api/management-server.ts';
export type {
  AgentView,
  AuthRuleView,
  ConnectionView,
  DisclosedKeyView,
  EnforcementView,
  KeyView,
  RevocationView,
  RevokeAgentView,
  RevokeView,
  TokenView,
} from './api/schemas.ts';
export { type Control, type ControlOptions, CUT_AFTER_MS, FENCE_AFTER_MS, openControl } from './control.ts';
export type {
  Admission,
  AdmissionCode,
  AdmissionRefusal,
  VerifiedCredential,
  VerifyRequest,
} from './credential.ts';
export type { ControlErrorCode } from './errors.ts';
export type { AgentLogin } from './agent-registry.ts';
export { createKeyringFile, type Keyring, newKeyringText, parseKeyring, readKeyringFile } from './keyring.ts';
export { dropMasterKeys, prepareMasterKey, rewrapKeys, type KeyringRotation } from './keyring-rotation.ts';
export type { LinkInfo, LiveState, LoginInfo, StreamFailure, StreamInfo } from './live-state.ts';
export type {
  Acknowledgement,
  AuthRuleRecord,
  ConnectionRecord,
  DisclosedKey,
  Enforcement,
  KeyRecord,
  KeySlot,
  KeyState,
  Revocation,
  RevocationKind,
  Target,
  TokenRecord,
} from './records.ts';
export { readControlChanges } from './recorded-changes.ts';
export { findUnchangeableRoles, findOccupancy, type Occupancy } from './occupancy.ts';
export { ensureRelayRole } from './relay-role.ts';
export type { ConnectionChange, RevocationFeed } from './revocation-feed.ts';
