{#- What changed is found by the time of the load, not by that of the change: rows that were committed late count too.
    An order is computed anew as a whole when it, a line of it or a return of it was loaded, or a return is gone. -#}
{{
    config(
        materialized="incremental",
        incremental_strategy="delete+insert",
        unique_key=["order_id", "line_number"],
        on_schema_change="fail",
        post_hook="{{ delete_gone(this) }}",
    )
}}

with

    orders as (select * from {{ ref("stg_shop__orders") }}),

    order_items as (select * from {{ ref("stg_shop__order_items") }}),

    returns as (select * from {{ ref("stg_shop__returns") }}),

    changed as (

        select order_id, loaded_at
        from orders
        union all
        select order_id, loaded_at
        from order_items
        union all
        select order_id, greatest(_sdc_batched_at, _sdc_deleted_at) as loaded_at
        from {{ source("shop", "returns") }}

    ),

    latest as (

        select order_id, max(loaded_at) as loaded_at
        from changed
        {% if is_incremental() %}
            where loaded_at > (select max(loaded_at) from {{ this }})
        {% endif %}
        group by order_id

    ),

    returned as (

        select order_id, line_number, sum(quantity) as quantity
        from returns
        group by order_id, line_number

    ),

    final as (

        select
            -- ids
            cast(order_items.order_id as bigint) as order_id,
            cast(order_items.line_number as integer) as line_number,
            cast(orders.customer_id as bigint) as customer_id,
            cast(order_items.product_id as bigint) as product_id,
            cast(orders.store_id as bigint) as store_id,

            -- strings
            cast(orders.status as varchar) as status,

            -- numerics
            cast(order_items.quantity as integer) as quantity,
            cast(coalesce(returned.quantity, 0) as integer) as returned_quantity,
            cast(order_items.amount as decimal(12, 2)) as amount,
            cast(order_items.discount as decimal(12, 2)) as discount,

            -- timestamps
            cast(orders.ordered_at as timestamp) as ordered_at,
            cast(latest.loaded_at as timestamp) as loaded_at

        from order_items
        inner join orders using (order_id)
        inner join latest using (order_id)
        left join returned using (order_id, line_number)

    )

select *
from final
