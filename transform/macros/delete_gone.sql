{#- The SQL that removes lines from fct_order_items which the source does not hold any more. -#}
{% macro delete_gone(relation) -%}
    delete from {{ relation }}
    where
        (order_id, line_number)
        not in (select (order_id, line_number) from {{ ref("stg_shop__order_items") }})
{%- endmacro %}
