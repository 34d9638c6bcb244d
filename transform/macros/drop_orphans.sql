{#- The SQL that drops what an earlier version of the project built and this one no longer holds; else a mart that was
    removed or renamed would be published for ever, as it was last. Nothing is dropped when a model failed. -#}
{% macro drop_orphans() -%}
    {%- set failed = results | selectattr("status", "in", ["error", "fail"]) | list -%}
    {%- if execute and flags.WHICH in ["run", "build"] and not failed -%}
        {%- set kept = graph.nodes.values() | map(attribute="relation_name") | list -%}
        {%- for schema in ["staging", "intermediate", "marts"] -%}
            {%- set place = api.Relation.create(target.database, schema) -%}
            {%- for found in list_relations_without_caching(place) -%}
                {%- set one = api.Relation.create(
                    target.database, schema, found["name"]
                ) -%}
                {%- if one.render() not in kept %}
                    drop {{ found["type"] }} if exists {{ one }} cascade;
                    {%- do log("dropped " ~ one ~ ": no model of the project", true) -%}
                {%- endif -%}
            {%- endfor -%}
        {%- endfor %}
        commit
        ;
        begin  -- dbt rolls back in the end, since what was read above began a transaction
        ;
    {%- endif -%}
{%- endmacro %}
