with

    customers as (select * from {{ ref("int_purchases_aggregated_to_customers") }}),

    demographics as (select * from {{ ref("stg_completejourney__demographics") }}),

    final as (

        select
            customers.household_id as customer_id,
            {{
                segment(
                    "customers.recency_days",
                    "customers.frequency",
                    "customers.monetary_value",
                )
            }} as segment,
            cast(customers.recency_days as integer) as recency_days,
            cast(customers.frequency as integer) as frequency,
            cast(customers.monetary_value as decimal(18, 2)) as monetary_value,
            cast(
                customers.monetary_value / customers.frequency as decimal(18, 2)
            ) as average_basket_value,
            cast(customers.units as bigint) as units,
            cast(customers.distinct_products as integer) as distinct_products,
            customers.first_purchase_at,
            customers.last_purchase_at,
            demographics.household_id is not null as has_demographics,
            demographics.age,
            demographics.income,
            demographics.home_ownership,
            demographics.marital_status,
            demographics.household_size,
            demographics.household_composition,
            demographics.kids_count
        from customers
        left join demographics on customers.household_id = demographics.household_id

    )

select *
from final
