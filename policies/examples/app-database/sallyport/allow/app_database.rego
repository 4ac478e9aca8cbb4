package sallyport.allow

import data.sallyport.request

# METADATA
# title: The warehouse agent publishes the order database
# custom: {id: orders-publish, owner: dba@example.com, ticket: SEC-41, expires: never}
publish["orders-db"] contains rego.metadata.rule() if {
	request.target_is("sql01.corp.example", 1433)
	net.cidr_contains("10.1.0.0/16", input.target.address)
	input.agent.labels.site == "warehouse"
}

# METADATA
# title: The order application, and nobody else
# custom:
#   id: orders-app
#   owner: payments@example.com
#   ticket: SEC-42
#   expires: 2028-03-31
#   limits: {max_seconds: 3600, idle_seconds: 900, max_streams_per_principal: 50}
stream["orders-db"] contains rego.metadata.rule() if input.key.principal == "orders-app"
