/** Everything `src/policy` throws; docs/errors.md explains each. */
export type PolicyErrorCode =
  | 'ERR_POLICY_ADDRESS'
  | 'ERR_POLICY_ARCHIVE'
  | 'ERR_POLICY_BUILD'
  | 'ERR_POLICY_BUNDLE'
  | 'ERR_POLICY_BUILTIN'
  | 'ERR_POLICY_CANARY'
  | 'ERR_POLICY_ENGINE'
  | 'ERR_POLICY_GRANTS'
  | 'ERR_POLICY_INPUT'
  | 'ERR_POLICY_SEQUENCE'
  | 'ERR_POLICY_UNSIGNED'
  | 'ERR_POLICY_VECTOR'
  | 'ERR_POLICY_OPA_MISSING'
  | 'ERR_POLICY_SOURCE';
