package sallyport.allow

import data.sallyport.request

shop_environments := {
	"test": {"host": "db.test.corp.example", "network": "10.60.0.0/16"},
	"prod": {"host": "db.prod.corp.example", "network": "10.70.0.0/16"},
}

# The environment of the agent, when the connection agrees with it.
shop_environment := input.agent.labels.env if input.connection.labels.env == input.agent.labels.env

# METADATA
# title: Each agent publishes the database of its own environment
# custom: {id: shop-publish, owner: platform@example.com, ticket: SEC-70, expires: never}
publish[name] contains rego.metadata.rule() if {
	name := concat("-", ["shop-db", shop_environment])
	environment := shop_environments[shop_environment]
	request.target_is(environment.host, 5432)
	net.cidr_contains(environment.network, input.target.address)
}

# METADATA
# title: Applications of the same environment
# custom: {id: shop-stream, owner: platform@example.com, ticket: SEC-71, expires: 2028-01-01}
stream[name] contains rego.metadata.rule() if {
	name := concat("-", ["shop-db", shop_environment])
	input.key.principal == concat("-", ["shop", shop_environment, "app"])
}

# METADATA
# title: A key of one environment is of no use in another
# custom: {id: shop-no-crossing, owner: security@example.com}
deny["*"] contains rego.metadata.rule() if {
	some environment, _ in shop_environments
	startswith(input.key.principal, concat("-", ["shop", environment, ""]))
	environment != input.agent.labels.env
}
